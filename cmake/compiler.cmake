# Warnings, ccache and the precompiled MLX headers.
# -fPIC for programs too (CMake's property would give them -fPIE), so that they can share the precompiled header.
add_compile_options(-fPIC)
add_compile_options(-Wall -Wextra -Wno-unused-parameter -Wno-missing-field-initializers -fno-math-errno)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  add_compile_options(-fpch-preprocess)  # lets ccache see through the precompiled header
endif()

find_program(MLX_LM_CCACHE ccache)
if(MLX_LM_CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER
      ${CMAKE_COMMAND} -E env CCACHE_BASEDIR=${PROJECT_SOURCE_DIR} CCACHE_NOHASHDIR=1
      CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime ${MLX_LM_CCACHE})
endif()

# MLX's headers take about two seconds a file to parse; one precompiled header serves every folder that uses MLX.
function(mlx_lm_use_pch target)
  if(NOT TARGET mlx_lm_pch)
    file(WRITE ${PROJECT_BINARY_DIR}/pch.cpp.new "// carrier of the precompiled MLX header\n")
    file(COPY_FILE ${PROJECT_BINARY_DIR}/pch.cpp.new ${PROJECT_BINARY_DIR}/pch.cpp ONLY_IF_DIFFERENT)
    add_library(mlx_lm_pch OBJECT ${PROJECT_BINARY_DIR}/pch.cpp)
    target_link_libraries(mlx_lm_pch PRIVATE mlx nlohmann_json::nlohmann_json fmt::fmt)
    target_precompile_headers(
      mlx_lm_pch PRIVATE <mlx/mlx.h> <mlx/primitives.h> <mlx/backend/cpu/encoder.h> <nlohmann/json.hpp> <fmt/format.h>)
  endif()
  target_precompile_headers(${target} REUSE_FROM mlx_lm_pch)
endfunction()
