# The target docs: the reference of the public headers, by doxygen. Not a part of all.
find_program(MIDWIRE_DOXYGEN doxygen)
set(MIDWIRE_DOXYGEN_OUTPUT ${PROJECT_BINARY_DIR}/reference)
configure_file(${PROJECT_SOURCE_DIR}/docs/Doxyfile.in ${PROJECT_BINARY_DIR}/cmake/Doxyfile @ONLY)
if(MIDWIRE_DOXYGEN)
  add_custom_target(docs COMMAND ${MIDWIRE_DOXYGEN} ${PROJECT_BINARY_DIR}/cmake/Doxyfile
    COMMENT "writing ${MIDWIRE_DOXYGEN_OUTPUT}/html/index.html" VERBATIM)
endif()
