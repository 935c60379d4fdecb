# SPDX-License-Identifier: MIT
# Finds single OpenCV modules. Distributions ship OpenCVConfig.cmake only in the package of all of OpenCV; this
# module works with the development packages of single modules, and uses OpenCVConfig if it exists.
#
#   find_package(OpenCVModules COMPONENTS core dnn)
#
# defines OpenCVModules_FOUND, OpenCVModules_VERSION and one imported target OpenCVModules::<module> each.
include(FindPackageHandleStandardArgs)

find_path(OpenCVModules_INCLUDE_DIR opencv2/core/version.hpp PATH_SUFFIXES opencv4 opencv5)
set(OpenCVModules_VERSION "")
if(OpenCVModules_INCLUDE_DIR)
    file(READ "${OpenCVModules_INCLUDE_DIR}/opencv2/core/version.hpp" _version)
    foreach(_part MAJOR MINOR REVISION)
        string(REGEX MATCH "CV_VERSION_${_part} +([0-9]+)" _ "${_version}")
        list(APPEND _parts "${CMAKE_MATCH_1}")
    endforeach()
    list(JOIN _parts "." OpenCVModules_VERSION)
    unset(_parts)
endif()

set(_required "")
foreach(_module IN LISTS OpenCVModules_FIND_COMPONENTS)
    find_library(OpenCVModules_${_module}_LIBRARY opencv_${_module})
    list(APPEND _required OpenCVModules_${_module}_LIBRARY)
    if(OpenCVModules_INCLUDE_DIR AND OpenCVModules_${_module}_LIBRARY AND NOT TARGET OpenCVModules::${_module})
        add_library(OpenCVModules::${_module} UNKNOWN IMPORTED)
        set_target_properties(OpenCVModules::${_module} PROPERTIES
            IMPORTED_LOCATION "${OpenCVModules_${_module}_LIBRARY}"
            INTERFACE_INCLUDE_DIRECTORIES "${OpenCVModules_INCLUDE_DIR}")
    endif()
endforeach()

find_package_handle_standard_args(OpenCVModules REQUIRED_VARS OpenCVModules_INCLUDE_DIR ${_required}
                                  VERSION_VAR OpenCVModules_VERSION)
mark_as_advanced(OpenCVModules_INCLUDE_DIR)
