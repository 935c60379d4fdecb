# SPDX-License-Identifier: MIT
# Finds the C++ protobuf messages of ONNX (Debian: libonnx-dev), without the operator schemas and checker of libonnx
# itself. The headers compile only with the libprotobuf of the protoc that generated them; this module, which is installed,
# does not check it. Defines OnnxProto_FOUND, OnnxProto_VERSION (of protobuf) and OnnxProto::onnx_proto.
include(FindPackageHandleStandardArgs)

find_path(OnnxProto_INCLUDE_DIR onnx/onnx-ml.pb.h)
find_library(OnnxProto_LIBRARY onnx_proto)
find_package(Protobuf QUIET)
set(OnnxProto_VERSION "${Protobuf_VERSION}")

find_package_handle_standard_args(OnnxProto REQUIRED_VARS OnnxProto_LIBRARY OnnxProto_INCLUDE_DIR Protobuf_FOUND
                                  VERSION_VAR OnnxProto_VERSION)
if(OnnxProto_FOUND AND NOT TARGET OnnxProto::onnx_proto)
    add_library(OnnxProto::onnx_proto UNKNOWN IMPORTED)
    set_target_properties(OnnxProto::onnx_proto PROPERTIES
        IMPORTED_LOCATION "${OnnxProto_LIBRARY}"
        INTERFACE_INCLUDE_DIRECTORIES "${OnnxProto_INCLUDE_DIR}"
        INTERFACE_LINK_LIBRARIES protobuf::libprotobuf)
endif()
mark_as_advanced(OnnxProto_INCLUDE_DIR OnnxProto_LIBRARY)
