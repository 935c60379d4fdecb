// All of the CUDA backend that is not a GPU's: planning, steps, dispatch, state and the kernels' per-element functions,
// run on the host against the tables that every backend has to pass.
#include "backends/cuda/cuda_backend.h"
#include "backends/cuda/engine.h"
#include "support/check_backend.h"
#include "support/op_cases.h"
#include "train/loss.h"

#include <cmath>
#include <limits>

using namespace mfres;

namespace {

const Backend& on_host() {
    static const cuda::CudaBackend backend(
        "cuda", "kernels of the cuda backend on the host",
        [] { return Result<std::unique_ptr<cuda::Engine>>(cuda::make_host_engine()); }, [] { return Status(); });
    return backend;
}

} // namespace

TEST_CASE("the kernels compute every op case") {
    for (const auto& op_case : test::op_cases()) {
        INFO(op_case.name);
        test::check_op_case(on_host(), op_case);
    }
}

TEST_CASE("the kernels compute the forward, the running statistics and the gradients of every case") {
    for (const auto& gradient_case : test::gradient_cases()) {
        INFO(gradient_case.name);
        test::check_gradient_case(on_host(), gradient_case);
    }
}
