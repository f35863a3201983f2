# The Rust bridge (rust/): built by cargo into one static library, with the C++ headers that cxx generates. One build
# serves every preset: it is always optimized.
find_program(MLX_LM_CARGO cargo REQUIRED)
set(bridge_dir ${PROJECT_SOURCE_DIR}/build/rust)
set(MLX_LM_BRIDGE_LIBRARY ${bridge_dir}/release/libmlx_lm_bridge.a)
file(GLOB bridge_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/rust/src/*.rs)
add_custom_command(
  OUTPUT ${MLX_LM_BRIDGE_LIBRARY}
  BYPRODUCTS ${bridge_dir}/cxxbridge/mlx_lm_bridge/src/lib.rs.h
  COMMAND ${MLX_LM_CARGO} build --quiet --release --locked --manifest-path ${PROJECT_SOURCE_DIR}/rust/Cargo.toml
          --target-dir ${bridge_dir}
  COMMAND ${CMAKE_COMMAND} -E touch ${MLX_LM_BRIDGE_LIBRARY}  # cargo leaves it alone when only comments changed
  DEPENDS ${bridge_sources} ${PROJECT_SOURCE_DIR}/rust/Cargo.toml ${PROJECT_SOURCE_DIR}/rust/Cargo.lock
          ${PROJECT_SOURCE_DIR}/rust/build.rs ${PROJECT_SOURCE_DIR}/mlx_lm/hub/progress.h
  COMMENT "Building the Rust bridge"
  VERBATIM)
add_custom_target(mlx_lm_bridge_build DEPENDS ${MLX_LM_BRIDGE_LIBRARY})

# What hub/ compiles against, and what programs link.
file(MAKE_DIRECTORY ${bridge_dir}/cxxbridge)
add_library(mlx_lm_bridge STATIC IMPORTED GLOBAL)
set_target_properties(mlx_lm_bridge PROPERTIES IMPORTED_LOCATION ${MLX_LM_BRIDGE_LIBRARY})
target_include_directories(mlx_lm_bridge INTERFACE ${bridge_dir}/cxxbridge)
target_link_libraries(mlx_lm_bridge INTERFACE dl)
add_dependencies(mlx_lm_bridge mlx_lm_bridge_build)
