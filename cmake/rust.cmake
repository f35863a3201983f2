# The Rust bridge (rust/): built by cargo into one static library, with the C++ headers that cxx generates.
find_program(MLX_LM_CARGO cargo REQUIRED)
