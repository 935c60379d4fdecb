// What inference and training share around the engine: its exceptions as errors, and how our arrays are laid out.
#pragma once

#include "core/tensor.h"
#include "core/try.h"

#include <dnnl.hpp>

#include <new>
#include <string>

namespace mfres::onednn {

/// Strides of a channels-last array in the order of its shape, [batch, channel, x, y, z].
inline std::array<std::int64_t, Shape::max_rank> channels_last_strides(const Shape& shape) {
    const std::int64_t z = shape[1];
    const std::int64_t y = z * shape[4];
    const std::int64_t x = y * shape[3];
    return {x * shape[2], 1, x, y, z};
}

/// The error for what the engine threw about a node.
inline Error engine_error(const dnnl::error& error, const std::string& node) {
    const bool memory = error.status == dnnl_out_of_memory;
    return {memory ? ErrorCode::memory_limit : ErrorCode::backend_failed,
            text("oneDNN failed at node ", node, ": ", error.what()), node};
}

/// An error that a step met outside the engine, on its way to guarded().
struct StepFailure {
    Error error;
};

/// Throws what guarded() returns.
inline void require(Status status) {
    if (!status)
        throw StepFailure{std::move(status).error()};
}

/// Runs `body`, which works on one node, and turns what it throws into an error that names the node.
template <typename Body>
Status guarded(const std::string& node, const Body& body) {
    try {
        body();
        return {};
    } catch (StepFailure& failure) {
        return std::move(failure.error);
    } catch (const dnnl::error& error) {
        return engine_error(error, node);
    } catch (const std::bad_alloc&) {
        return Error{ErrorCode::memory_limit, text("no memory was left for node ", node, " of the onednn backend"),
                     node};
    }
}

} // namespace mfres::onednn
