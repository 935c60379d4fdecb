# SPDX-License-Identifier: MIT
# Finds nifti_clib's NIfTI-2 library (it reads and writes NIfTI-1 as well). Debian's NIFTIConfig.cmake is not used,
# because it requires command-line tools that a build does not need. Defines NiftiClib_FOUND and NiftiClib::nifti2.
include(FindPackageHandleStandardArgs)

find_path(NiftiClib_INCLUDE_DIR nifti2_io.h PATH_SUFFIXES nifti)
find_library(NiftiClib_nifti2_LIBRARY nifti2)
find_library(NiftiClib_znz_LIBRARY znz)
find_package_handle_standard_args(NiftiClib REQUIRED_VARS NiftiClib_INCLUDE_DIR NiftiClib_nifti2_LIBRARY
                                  NiftiClib_znz_LIBRARY)
if(NiftiClib_FOUND AND NOT TARGET NiftiClib::nifti2)
    add_library(NiftiClib::nifti2 UNKNOWN IMPORTED)
    set_target_properties(NiftiClib::nifti2 PROPERTIES
        IMPORTED_LOCATION "${NiftiClib_nifti2_LIBRARY}"
        INTERFACE_INCLUDE_DIRECTORIES "${NiftiClib_INCLUDE_DIR}"
        INTERFACE_LINK_LIBRARIES "${NiftiClib_znz_LIBRARY}")
endif()
mark_as_advanced(NiftiClib_INCLUDE_DIR NiftiClib_nifti2_LIBRARY NiftiClib_znz_LIBRARY)
