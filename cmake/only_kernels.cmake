# base/ and kernels/ with their tests, from sources alone: no MLX, no Rust, and of the libraries only what headers and
# Debian's sources of GoogleTest give. What a cross compiler can build (cmake --preset arm64-kernels).
find_package(Threads REQUIRED)
# Not /usr/include itself, which would put this machine's system headers before the other's.
file(MAKE_DIRECTORY ${PROJECT_BINARY_DIR}/include)
foreach(library nlohmann fmt)
  file(CREATE_LINK /usr/include/${library} ${PROJECT_BINARY_DIR}/include/${library} SYMBOLIC)
endforeach()
add_library(nlohmann_json::nlohmann_json INTERFACE IMPORTED)
target_include_directories(nlohmann_json::nlohmann_json INTERFACE ${PROJECT_BINARY_DIR}/include)
add_library(fmt::fmt INTERFACE IMPORTED)
target_include_directories(fmt::fmt INTERFACE ${PROJECT_BINARY_DIR}/include)
target_compile_definitions(fmt::fmt INTERFACE FMT_HEADER_ONLY)

include(folder)
mlx_lm_folder(base LINK nlohmann_json::nlohmann_json fmt::fmt Threads::Threads)
mlx_lm_folder(kernels LINK base)
include(kernel_flags)

set(INSTALL_GTEST OFF)
set(BUILD_GMOCK OFF)
add_subdirectory(/usr/src/googletest ${PROJECT_BINARY_DIR}/googletest EXCLUDE_FROM_ALL)
enable_testing()
include(GoogleTest)
# The emulator cannot start a second program of its kind, as this one test does.
set(filter -ThreadPoolDeathTest.*)
foreach(folder base kernels)
  file(GLOB sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tests/${folder}/*_test.cpp)
  add_executable(test_${folder} ${sources})
  target_link_libraries(test_${folder} PRIVATE mlx_lm_base mlx_lm_kernels GTest::gtest_main)
  gtest_discover_tests(test_${folder} TEST_PREFIX ${folder}. TEST_FILTER ${filter} DISCOVERY_MODE PRE_TEST
                       PROPERTIES TIMEOUT 600)
endforeach()

# Again on processors that lack instructions: an illegal one would end the program. And each must get the right set.
if(CMAKE_CROSSCOMPILING_EMULATOR MATCHES "qemu-aarch64")
  list(POP_BACK CMAKE_CROSSCOMPILING_EMULATOR cpu)
  foreach(pair max=i8mm cortex-a76=dotprod cortex-a53=neon)
    string(REPLACE "=" ";" pair ${pair})
    list(GET pair 0 cpu)
    list(GET pair 1 set)
    set(filter InstructionSet.*)
    if(NOT cpu STREQUAL max)  # on which all tests have run
      string(APPEND filter :Packed.*:Dense.*:Convert.*:Swiglu.*:Exp.*)
    endif()
    add_test(NAME kernels.on_${cpu} COMMAND ${CMAKE_CROSSCOMPILING_EMULATOR} ${cpu} $<TARGET_FILE:test_kernels>
                                            --gtest_brief=1 --gtest_filter=${filter})
    set_tests_properties(kernels.on_${cpu} PROPERTIES TIMEOUT 600 ENVIRONMENT MLX_LM_TEST_BEST_SET=${set})
  endforeach()
endif()
