//! SHA-256 of what comes in pieces.

use sha2::Digest;

pub struct BridgeDigest(sha2::Sha256);

pub fn digest_new() -> Box<BridgeDigest> {
    Box::new(BridgeDigest(sha2::Sha256::new()))
}

impl BridgeDigest {
    pub fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    /// 64 digits. The digest goes on from where it is.
    pub fn hex(&self) -> String {
        self.0.clone().finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
