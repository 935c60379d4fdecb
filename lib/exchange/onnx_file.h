// SPDX-License-Identifier: MIT
// Functions shared by the readers of ONNX files, in the module libmfres_onnx.so.
#pragma once

#include "core/try.h"
#include "exchange/onnx.h"

#include <google/protobuf/arena.h>
#include <onnx/onnx_pb.h>

#include <memory>

namespace mfres {

/// A model's message with all its parts in memory of its own, which is freed at once: parts of protobuf that got no
/// memory for their content can be neither found nor destroyed. Texts are set by assignment to `mutable_...()`, because
/// `set_...` would leave a text that got no memory to be destroyed.
class OnnxMessage {
  public:
    onnx::ModelProto& operator*() { return *model_; }
    const onnx::ModelProto& operator*() const { return *model_; }
    onnx::ModelProto* operator->() { return model_; }
    const onnx::ModelProto* operator->() const { return model_; }

  private:
    std::unique_ptr<google::protobuf::Arena> arena_ = std::make_unique<google::protobuf::Arena>();
    onnx::ModelProto* model_ = google::protobuf::Arena::CreateMessage<onnx::ModelProto>(arena_.get());
};

/// Parses the protobuf message. Errors: memory_limit, model_header_invalid.
Result<OnnxMessage> parse_onnx(std::span<const std::byte> bytes, const std::string& path);

/// What a graph's outputs are: as the file says, or the logits where it ends in a Softmax.
enum class OnnxEnds : std::uint8_t { as_they_are, before_softmax };

/// decode_onnx for a message that was parsed already.
Result<OnnxNetwork> read_onnx_graph(const onnx::ModelProto& model, const std::string& path, const Axes& size,
                                    OnnxEnds ends = OnnxEnds::as_they_are);

} // namespace mfres
