# SPDX-License-Identifier: MIT
# Finds libdeflate, whose own CMake files not every distribution installs. Defines LibDeflate_FOUND, LibDeflate_VERSION and
# LibDeflate::libdeflate.
include(FindPackageHandleStandardArgs)

find_path(LibDeflate_INCLUDE_DIR libdeflate.h)
find_library(LibDeflate_LIBRARY deflate)
if(LibDeflate_INCLUDE_DIR)
    file(STRINGS "${LibDeflate_INCLUDE_DIR}/libdeflate.h" line REGEX "define LIBDEFLATE_VERSION_STRING")
    string(REGEX MATCH "[0-9][0-9.]*" LibDeflate_VERSION "${line}")
endif()
find_package_handle_standard_args(LibDeflate REQUIRED_VARS LibDeflate_LIBRARY LibDeflate_INCLUDE_DIR
                                  VERSION_VAR LibDeflate_VERSION)
if(LibDeflate_FOUND AND NOT TARGET LibDeflate::libdeflate)
    add_library(LibDeflate::libdeflate UNKNOWN IMPORTED)
    set_target_properties(LibDeflate::libdeflate PROPERTIES
        IMPORTED_LOCATION "${LibDeflate_LIBRARY}"
        INTERFACE_INCLUDE_DIRECTORIES "${LibDeflate_INCLUDE_DIR}")
endif()
mark_as_advanced(LibDeflate_INCLUDE_DIR LibDeflate_LIBRARY)
