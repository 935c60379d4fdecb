# SPDX-License-Identifier: MIT
# Finds NCCL's header, and its library if there is one: mfres opens the library at run time. Hints: NCCL_ROOT (a folder with
# include and lib, such as nvidia/nccl in Python's site-packages) and the CUDA toolkit. Defines NCCL_FOUND, NCCL_VERSION,
# NCCL::headers and NCCL_LIBRARY, which is empty where only the header was found.
include(FindPackageHandleStandardArgs)

find_package(CUDAToolkit QUIET)
set(_hints ${NCCL_ROOT} $ENV{NCCL_ROOT} ${CUDAToolkit_TARGET_DIR} ${CUDAToolkit_LIBRARY_ROOT})
find_path(NCCL_INCLUDE_DIR nccl.h HINTS ${_hints} ${CUDAToolkit_INCLUDE_DIRS} PATH_SUFFIXES include)
find_file(NCCL_LIBRARY NAMES libnccl.so.2 HINTS ${_hints} ${CUDAToolkit_LIBRARY_DIR} PATHS /usr/lib /usr/lib64
          PATH_SUFFIXES lib lib64 ${CMAKE_LIBRARY_ARCHITECTURE})
unset(_hints)
if(NOT NCCL_LIBRARY)
    set(NCCL_LIBRARY "" CACHE FILEPATH "NCCL's library" FORCE)
endif()

set(NCCL_VERSION "")
if(NCCL_INCLUDE_DIR)
    file(READ "${NCCL_INCLUDE_DIR}/nccl.h" _header)
    if(_header MATCHES "define +NCCL_MAJOR +([0-9]+)")
        set(NCCL_VERSION "${CMAKE_MATCH_1}")
        foreach(_part MINOR PATCH)
            string(REGEX MATCH "define +NCCL_${_part} +([0-9]+)" _ "${_header}")
            string(APPEND NCCL_VERSION ".${CMAKE_MATCH_1}")
        endforeach()
    endif()
    unset(_header)
endif()

find_package_handle_standard_args(NCCL REQUIRED_VARS NCCL_INCLUDE_DIR VERSION_VAR NCCL_VERSION)
if(NCCL_FOUND AND NOT TARGET NCCL::headers)
    add_library(NCCL::headers INTERFACE IMPORTED)
    set_target_properties(NCCL::headers PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${NCCL_INCLUDE_DIR}")
endif()
mark_as_advanced(NCCL_INCLUDE_DIR NCCL_LIBRARY)
