# SPDX-License-Identifier: MIT
# Finds oneDNN's headers and library. Debian's dnnl-config.cmake is not used, because it fails without OpenCL's
# development files, which only GPU programs need. Hints: `dnnl_DIR` (the folder of a dnnl-config.cmake) and `dnnl_ROOT`.
# Defines OneDNN_FOUND, OneDNN_VERSION, OneDNN_CPU_RUNTIME ("OMP", "TBB",
# "SEQ", ...) and OneDNN::dnnl.
include(FindPackageHandleStandardArgs)

set(_hints "")
if(dnnl_DIR)
    list(APPEND _hints "${dnnl_DIR}/../../.." "${dnnl_DIR}/../../../..")
endif()
if(dnnl_ROOT)
    list(APPEND _hints "${dnnl_ROOT}")
endif()
find_path(OneDNN_INCLUDE_DIR oneapi/dnnl/dnnl.hpp HINTS ${_hints} PATH_SUFFIXES include)
find_library(OneDNN_LIBRARY dnnl HINTS ${_hints} PATH_SUFFIXES lib lib64)
unset(_hints)

set(OneDNN_VERSION "")
set(OneDNN_CPU_RUNTIME "")
if(OneDNN_INCLUDE_DIR)
    file(READ "${OneDNN_INCLUDE_DIR}/oneapi/dnnl/dnnl_version.h" _version)
    set(_parts "")
    foreach(_part MAJOR MINOR PATCH)
        string(REGEX MATCH "define +DNNL_VERSION_${_part} +([0-9]+)" _ "${_version}")
        list(APPEND _parts "${CMAKE_MATCH_1}")
    endforeach()
    list(JOIN _parts "." OneDNN_VERSION)
    file(READ "${OneDNN_INCLUDE_DIR}/oneapi/dnnl/dnnl_config.h" _config)
    string(REGEX MATCH "define +DNNL_CPU_THREADING_RUNTIME +DNNL_RUNTIME_([A-Z]+)" _ "${_config}")
    set(OneDNN_CPU_RUNTIME "${CMAKE_MATCH_1}")
    unset(_version)
    unset(_config)
    unset(_parts)
endif()

find_package_handle_standard_args(OneDNN REQUIRED_VARS OneDNN_LIBRARY OneDNN_INCLUDE_DIR VERSION_VAR OneDNN_VERSION)
if(OneDNN_FOUND AND NOT TARGET OneDNN::dnnl)
    add_library(OneDNN::dnnl UNKNOWN IMPORTED)
    set_target_properties(OneDNN::dnnl PROPERTIES
        IMPORTED_LOCATION "${OneDNN_LIBRARY}"
        INTERFACE_INCLUDE_DIRECTORIES "${OneDNN_INCLUDE_DIR}")
endif()
mark_as_advanced(OneDNN_INCLUDE_DIR OneDNN_LIBRARY)
