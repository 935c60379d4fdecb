# SPDX-License-Identifier: MIT
# Finds cuDNN 9. Hints: CUDNN_ROOT (a folder with include and lib, such as nvidia/cudnn in Python's site-packages) and the
# CUDA toolkit. Defines CUDNN_FOUND, CUDNN_VERSION and CUDNN::cudnn.
include(FindPackageHandleStandardArgs)

find_package(CUDAToolkit QUIET)
set(_hints ${CUDNN_ROOT} $ENV{CUDNN_ROOT} ${CUDAToolkit_TARGET_DIR} ${CUDAToolkit_LIBRARY_ROOT})
find_path(CUDNN_INCLUDE_DIR cudnn_graph.h HINTS ${_hints} ${CUDAToolkit_INCLUDE_DIRS} PATH_SUFFIXES include)
find_library(CUDNN_LIBRARY NAMES cudnn libcudnn.so.9 NAMES_PER_DIR HINTS ${_hints} ${CUDAToolkit_LIBRARY_DIR}
             PATH_SUFFIXES lib lib64)
unset(_hints)

set(CUDNN_VERSION "")
if(CUDNN_INCLUDE_DIR)
    file(GLOB _headers "${CUDNN_INCLUDE_DIR}/cudnn_version.h" "${CUDNN_INCLUDE_DIR}/cudnn_version_v9.h")
    foreach(_header IN LISTS _headers)
        file(READ "${_header}" _version)
        if(CUDNN_VERSION STREQUAL "" AND _version MATCHES "define +CUDNN_MAJOR +([0-9]+)")
            set(CUDNN_VERSION "${CMAKE_MATCH_1}")
            foreach(_part MINOR PATCHLEVEL)
                string(REGEX MATCH "define +CUDNN_${_part} +([0-9]+)" _ "${_version}")
                string(APPEND CUDNN_VERSION ".${CMAKE_MATCH_1}")
            endforeach()
        endif()
    endforeach()
    unset(_headers)
    unset(_version)
endif()

find_package_handle_standard_args(CUDNN REQUIRED_VARS CUDNN_LIBRARY CUDNN_INCLUDE_DIR VERSION_VAR CUDNN_VERSION)
if(CUDNN_FOUND AND NOT TARGET CUDNN::cudnn)
    add_library(CUDNN::cudnn UNKNOWN IMPORTED)
    set_target_properties(CUDNN::cudnn PROPERTIES
        IMPORTED_LOCATION "${CUDNN_LIBRARY}"
        INTERFACE_INCLUDE_DIRECTORIES "${CUDNN_INCLUDE_DIR}")
endif()
mark_as_advanced(CUDNN_INCLUDE_DIR CUDNN_LIBRARY)
