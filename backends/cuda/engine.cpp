// SPDX-License-Identifier: MIT
#include "backends/cuda/engine.h"

#include "backends/planned/op_failure.h"
#include "core/try.h"

#include <new>
#include <utility>

namespace mfres::cuda {

void check(const Status& status) {
    if (!status)
        throw EngineError(status.error().code, status.error().message);
}

std::string cudnn_warning(std::int64_t version) {
    constexpr std::int64_t short_from = 90800, short_mended = 91500, tf32_from = 91002, tf32_mended = 91600;
    const bool short_types = version >= short_from && version < short_mended;
    const bool tf32 = version >= tf32_from && version < tf32_mended;
    if (!short_types && !tf32)
        return {};
    return text("3-D convolutions in ", short_types ? "bf16 and fp16" : "TF32",
                short_types && tf32 ? ", and in TF32," : "",
                " are known to be wrong in this cuDNN; install 9.16 or newer");
}

Status guarded(const std::string& node, const std::function<void()>& body) {
    try {
        body();
        return {};
    } catch (OpFailure& failure) {
        return std::move(failure.error);
    } catch (const EngineError& error) {
        return Error{error.code(), text("the cuda backend failed at node ", node, ": ", error.what()), node};
    } catch (const std::bad_alloc&) {
        return Error{ErrorCode::memory_limit, text("no host memory was left for node ", node, " of the cuda backend"),
                     node};
    }
}

} // namespace mfres::cuda
