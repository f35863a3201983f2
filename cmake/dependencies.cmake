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
