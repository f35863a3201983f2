# The server's chat page (web/), bundled by esbuild into one generated source of mlx_lm_serve that carries its files.
find_program(MLX_LM_NODE NAMES node nodejs)
find_program(MLX_LM_NPM npm)
set(node_version none)
if(MLX_LM_NODE)
  execute_process(COMMAND ${MLX_LM_NODE} --version OUTPUT_VARIABLE node_version OUTPUT_STRIP_TRAILING_WHITESPACE)
  string(REGEX REPLACE "^v" "" node_version "${node_version}")
endif()
if(NOT MLX_LM_NPM OR node_version VERSION_LESS 18)
  message(FATAL_ERROR "[web] chat page: expected Node.js 18 or newer and npm, which bundle it, found Node.js "
                      "${node_version}, npm ${MLX_LM_NPM} (scripts/setup.sh, or on Debian: apt-get install nodejs npm)")
endif()
set(web_source ${PROJECT_SOURCE_DIR}/web)
set(web_dir ${PROJECT_BINARY_DIR}/web)

# npm writes this file last. One installation serves every preset; scripts/setup.sh --test adds what the tests need.
set(web_packages ${web_source}/node_modules/.package-lock.json)
add_custom_command(
  OUTPUT ${web_packages}
  COMMAND ${MLX_LM_NPM} ci --prefix ${web_source} --omit=dev --ignore-scripts --no-audit --no-fund --silent
  COMMAND ${CMAKE_COMMAND} -E touch ${web_packages}
  DEPENDS ${web_source}/package.json ${web_source}/package-lock.json
  COMMENT "Fetching the chat page's packages"
  VERBATIM)

file(GLOB web_sources CONFIGURE_DEPENDS ${web_source}/src/*)
add_custom_command(
  OUTPUT ${web_dir}/page_files.cpp
  COMMAND ${MLX_LM_NODE} ${web_source}/build.mjs ${web_dir}
  DEPENDS ${web_packages} ${web_sources} ${web_source}/build.mjs ${web_source}/headers.json
  COMMENT "Bundling the chat page"
  VERBATIM)
target_sources(mlx_lm_serve PRIVATE ${web_dir}/page_files.cpp)
set_source_files_properties(${web_dir}/page_files.cpp PROPERTIES SKIP_PRECOMPILE_HEADERS ON)
