//! The header of a safetensors file: the crate's own checks, and before them the ones that it lacks.

use std::collections::HashSet;
use std::fmt;

use safetensors::SafeTensors;
use safetensors::tensor::{SafeTensorError, TensorInfo};
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

use crate::ffi::{Header, HeaderPair, HeaderTensor};
use crate::guard::{Answer, guarded, lossy, one_line};

// The crate's own bound; the largest checkpoints' shards have headers below 1 MB.
const MAX_HEADER: u64 = 100_000_000;
const MAX_DIMS: usize = 8;

pub fn read_header(file: &[u8], origin: &[u8]) -> Answer<Header> {
    let origin = lossy(origin);
    guarded("safetensors", &origin, || {
        let wrong = |what: String| format!("[safetensors] {origin}: {what}");
        check_duplicates(file).map_err(&wrong)?;
        let (length, metadata) = SafeTensors::read_metadata(file).map_err(|e| wrong(describe(file, &e)))?;
        let data = 8 + length as u64;
        let mut header = Header { tensors: Vec::new(), metadata: Vec::new() };
        for name in metadata.offset_keys() {
            let info = metadata.info(&name).ok_or_else(|| wrong("the header contradicts itself".into()))?;
            if info.shape.len() > MAX_DIMS {
                let dims = info.shape.len();
                return Err(wrong(format!("tensor {name}: expected at most {MAX_DIMS} dimensions, found {dims}")));
            }
            let shape: Result<Vec<i64>, _> = info.shape.iter().map(|&size| i64::try_from(size)).collect();
            header.tensors.push(HeaderTensor {
                dtype: info.dtype.to_string(),
                shape: shape.map_err(|_| wrong(format!("tensor {name}: a size is above 2^63")))?,
                begin: data + info.data_offsets.0 as u64,
                end: data + info.data_offsets.1 as u64,
                name,
            });
        }
        for (key, value) in metadata.metadata().iter().flatten() {
            header.metadata.push(HeaderPair { key: key.clone(), value: value.clone() });
        }
        Ok(header)
    })
}

/// The crate reads the header into a map, so the last of two tensors of one name would silently win.
/// Damage of any other kind is left for the crate to name.
fn check_duplicates(file: &[u8]) -> Result<(), String> {
    let Some(json) = header_bytes(file) else { return Ok(()) };
    let mut found = None;
    let mut reader = serde_json::Deserializer::from_slice(json);
    let _ = reader.deserialize_map(Keys { twice: &mut found });
    match found {
        Some(name) => Err(format!("tensor {}: expected once, found twice", one_line(&name, 200))),
        None => Ok(()),
    }
}

struct Keys<'a> {
    twice: &'a mut Option<String>,
}

impl<'de> Visitor<'de> for Keys<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            map.next_value::<IgnoredAny>()?;
            if !seen.insert(key.clone()) {
                *self.twice = Some(key);
                return Ok(());
            }
        }
        Ok(())
    }
}

fn header_bytes(file: &[u8]) -> Option<&[u8]> {
    let length = u64::from_le_bytes(file.get(..8)?.try_into().ok()?);
    if length > MAX_HEADER {
        return None;
    }
    file.get(8..8 + length as usize)
}

/// The first tensor whose size is not what shape and dtype need: the crate does not tell its name.
fn culprit(file: &[u8]) -> Option<String> {
    let header: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(header_bytes(file)?).ok()?;
    header.into_iter().find_map(|(name, value)| {
        let info: TensorInfo = serde_json::from_value(value).ok()?;
        let (begin, end) = info.data_offsets;
        let bits = info.shape.iter().try_fold(info.dtype.bitsize(), |bits, &size| bits.checked_mul(size));
        let fits = bits.is_some_and(|bits| bits % 8 == 0 && end.checked_sub(begin) == Some(bits / 8));
        (!fits).then_some(name)
    })
}

fn describe(file: &[u8], error: &SafeTensorError) -> String {
    let size = file.len();
    match error {
        SafeTensorError::HeaderTooSmall => format!("expected at least 8 bytes, found {size}"),
        SafeTensorError::HeaderTooLarge => {
            format!("expected a header of at most {MAX_HEADER} bytes, found a larger one")
        }
        SafeTensorError::InvalidHeaderLength => {
            let length = u64::from_le_bytes(file[..8].try_into().unwrap_or_default());
            format!("expected a header of {length} bytes, found only {} in the file", size - 8)
        }
        SafeTensorError::InvalidHeader(e) => format!("header: not UTF-8 at byte {}", e.valid_up_to()),
        SafeTensorError::InvalidHeaderDeserialization(e) => format!("header: {}", one_line(&e.to_string(), 300)),
        SafeTensorError::InvalidOffset(name) => format!(
            "tensor {}: its data_offsets leave a gap, overlap another tensor or run backwards",
            one_line(name, 200)
        ),
        SafeTensorError::TensorInvalidInfo | SafeTensorError::ValidationOverflow | SafeTensorError::MisalignedSlice => {
            format!(
                "tensor {}: its data_offsets span another number of bytes than its shape and dtype need",
                one_line(&culprit(file).unwrap_or_default(), 200)
            )
        }
        SafeTensorError::MetadataIncompleteBuffer => {
            format!("expected the tensors to end where the file ends ({size} bytes), found another end; is it cut off?")
        }
        other => one_line(&other.to_string(), 300),
    }
}

#[cfg(test)]
mod tests;
