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
