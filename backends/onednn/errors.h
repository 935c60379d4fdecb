// SPDX-License-Identifier: MIT
// Exceptions of oneDNN as errors.
#pragma once

#include "backends/planned/op_failure.h"
#include "core/page_vector.h"
#include "core/try.h"

#include <dnnl.hpp>

#include <cstddef>
#include <new>
#include <string>

namespace mfres::onednn {

/// The error for an exception that oneDNN threw while `node` was compiled or run.
inline Error engine_error(const dnnl::error& error, const std::string& node) {
    const bool memory = error.status == dnnl_out_of_memory;
    return {memory ? ErrorCode::memory_limit : ErrorCode::backend_failed,
            text("oneDNN failed at node ", node, ": ", error.what()), node};
}

/// Throws std::bad_alloc where there is no memory for the code that an op generates. oneDNN 2.6 does not check whether it
/// got that memory, and writes to address 0 where it did not. The pages are not touched.
inline void check_code_memory() {
    constexpr std::size_t enough = std::size_t{32}
                                   << 20; // 256 KiB for each kernel; a convolution has up to some dozens
    PageVector<std::byte> pages;
    pages.reserve(enough);
}

/// Calls `body`, which works on `node`, and returns what it throws as an error that names the node.
template <typename Body>
Status guarded(const std::string& node, const Body& body) {
    try {
        check_code_memory();
        body();
        return {};
    } catch (OpFailure& failure) {
        return std::move(failure.error);
    } catch (const dnnl::error& error) {
        return engine_error(error, node);
    } catch (const std::bad_alloc&) {
        return Error{ErrorCode::memory_limit, text("no memory was left for node ", node, " of the onednn backend"),
                     node};
    }
}

} // namespace mfres::onednn
