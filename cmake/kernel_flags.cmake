# One instruction set per kernel file: kernels/<name>_avx2.cpp and <name>_avx512.cpp get their own flags, so that
# the rest of the program runs on any x86-64 and the right set is chosen at start.
file(GLOB files ${PROJECT_SOURCE_DIR}/mlx_lm/kernels/*.cpp)
foreach(file IN LISTS files)
  set(flags -O3 -ffp-contract=off)
  if(file MATCHES "_avx2\\.cpp$")
    list(APPEND flags -mavx2 -mfma -mf16c)
  elseif(file MATCHES "_avx512\\.cpp$")
    list(APPEND flags -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mfma -mf16c -mprefer-vector-width=512)
  endif()
  set_source_files_properties(${file} TARGET_DIRECTORY mlx_lm_kernels PROPERTIES COMPILE_OPTIONS "${flags}")
endforeach()
