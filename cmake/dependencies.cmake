# MLX comes from the wheel that scripts/setup.sh unpacked, or from an installed MLX (-DMLX_ROOT=...).
set(MLX_LM_WHEEL_DIR ${PROJECT_SOURCE_DIR}/.deps/mlx-cpu-0.32.4 CACHE PATH "Unpacked MLX wheel")
list(APPEND CMAKE_PREFIX_PATH ${MLX_LM_WHEEL_DIR}/mlx)
find_package(MLX 0.32 CONFIG QUIET)
if(NOT MLX_FOUND)
  message(FATAL_ERROR "[setup] MLX: expected its wheel in ${MLX_LM_WHEEL_DIR}, found nothing; run 'make setup'")
endif()

find_package(Threads REQUIRED)
find_package(nlohmann_json 3.10 REQUIRED)
find_package(fmt 9 REQUIRED)
find_package(CLI11 2.1 REQUIRED)

# For `mlx_lm server`.
find_package(Boost 1.81 REQUIRED)  # Asio and Beast, which are headers only
find_package(OpenSSL 3 REQUIRED)
find_package(prometheus-cpp REQUIRED COMPONENTS core)

# For the lines of `mlx_lm chat`.
find_path(MLX_LM_LIBEDIT_INCLUDE histedit.h)
find_library(MLX_LM_LIBEDIT edit)
if(NOT MLX_LM_LIBEDIT OR NOT MLX_LM_LIBEDIT_INCLUDE)
  message(FATAL_ERROR "[setup] libedit: expected its library and histedit.h, found nothing; run 'make setup'")
endif()
add_library(mlx_lm_libedit INTERFACE)
target_include_directories(mlx_lm_libedit SYSTEM INTERFACE ${MLX_LM_LIBEDIT_INCLUDE})
target_link_libraries(mlx_lm_libedit INTERFACE ${MLX_LM_LIBEDIT})
