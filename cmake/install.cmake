# cmake --install build/release [--prefix DIR]: the programs, the GPU's plug-in beside them, and the bundled model where
# t5_config_bundled_model() looks for it. Nothing of the source tree is needed afterwards.
include(GNUInstallDirs)
install(TARGETS t5serve t5 RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
if(TARGET t5cuda)
    install(TARGETS t5cuda LIBRARY DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()
install(DIRECTORY ${PROJECT_SOURCE_DIR}/models/t5-tatoeba DESTINATION ${CMAKE_INSTALL_DATADIR}/t5serve/models)
