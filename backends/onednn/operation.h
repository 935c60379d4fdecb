// What a step of the network becomes: an operation with its constants, ready to be bound to memory and run.
#pragma once

#include "core/tensor.h"

#include <dnnl.hpp>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace mfres::onednn {

/// Where an operation finds its operands once memory is planned. All activations are dense channels-last arrays,
/// [batch, x, y, z, channel]; the output may lie on the residual, or on the first input of a pointwise operation.
struct Place {
    std::vector<const float*> inputs;
    const float* residual = nullptr; ///< null without one
    float* output = nullptr;
    std::byte* scratch = nullptr; ///< Operation::scratch_bytes() bytes, on a 64-byte boundary
};

class Operation {
  public:
    Operation() = default;
    Operation(const Operation&) = delete;
    Operation& operator=(const Operation&) = delete;
    virtual ~Operation() = default;

    /// oneDNN's name of the kernel, or "mfres:<what>" for a loop of our own.
    virtual std::string implementation() const = 0;
    /// Memory needed only while it runs.
    virtual std::int64_t scratch_bytes() const = 0;
    /// Memory of reordered weights and other constants.
    virtual std::int64_t constant_bytes() const = 0;
    /// Called once, before run. Throws dnnl::error.
    virtual void bind(const Place& place) = 0;
    /// Throws dnnl::error.
    virtual void run(dnnl::stream& stream) = 0;
};

} // namespace mfres::onednn
