fn main() {
    cxx_build::bridge("src/lib.rs").include("..").std("c++20").compile("mlx_lm_bridge_cxx");
    println!("cargo:rerun-if-changed=src/lib.rs");
    println!("cargo:rerun-if-changed=../mlx_lm/hub/progress.h");
}
