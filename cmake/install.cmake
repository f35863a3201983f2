# cmake --install: the program with its links, the library with its headers, and MLX beside them, so that the tree runs
# and find_package(mlx_lm) works from wherever it is put.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(private_dir ${CMAKE_INSTALL_LIBDIR}/mlx_lm)  # MLX's wheel, in the layout that its libraries expect
cmake_path(RELATIVE_PATH private_dir BASE_DIRECTORY ${CMAKE_INSTALL_BINDIR} OUTPUT_VARIABLE from_bin)
set_target_properties(mlx_lm_program PROPERTIES INSTALL_RPATH "$ORIGIN/${from_bin}/mlx/lib")

install(TARGETS mlx_lm_program RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
foreach(command benchmark cache_prompt chat generate perplexity server)
  install(CODE "
    set(link \"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_BINDIR}/mlx_lm.${command}\")
    file(CREATE_LINK mlx_lm \"\${link}\" SYMBOLIC)
    message(STATUS \"Installing: \${link}\")")
endforeach()

install(TARGETS mlx_lm EXPORT mlx_lm ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(FILES ${MLX_LM_BRIDGE_LIBRARY} DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY mlx_lm DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h" PATTERN cli EXCLUDE
        PATTERN serve EXCLUDE)
install(DIRECTORY ${MLX_LM_WHEEL_DIR}/ DESTINATION ${private_dir} USE_SOURCE_PERMISSIONS
        PATTERN "*.py" EXCLUDE PATTERN "*.pyi" EXCLUDE PATTERN "*.dist-info" EXCLUDE PATTERN "py.typed" EXCLUDE)

set(config_dir ${CMAKE_INSTALL_LIBDIR}/cmake/mlx_lm)
install(EXPORT mlx_lm NAMESPACE mlx_lm:: FILE mlx_lm-targets.cmake DESTINATION ${config_dir})
configure_package_config_file(cmake/mlx_lm-config.cmake.in ${PROJECT_BINARY_DIR}/mlx_lm-config.cmake
                              INSTALL_DESTINATION ${config_dir} PATH_VARS private_dir CMAKE_INSTALL_LIBDIR)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/mlx_lm-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/mlx_lm-config.cmake ${PROJECT_BINARY_DIR}/mlx_lm-config-version.cmake
        DESTINATION ${config_dir})
