// SPDX-License-Identifier: MIT
#include "backends/cuda/nccl_ranks.h"

#include "backends/cuda/engine.h"
#include "core/try.h"

#ifdef MFRES_WITH_NCCL

#include "backends/cuda/nccl_library.h"

#include <cuda_runtime_api.h>

namespace mfres::cuda {

namespace {

void check(cudaError_t status, const char* what) {
    if (status != cudaSuccess)
        throw EngineError(ErrorCode::backend_failed, text("CUDA: ", what, ": ", cudaGetErrorString(status)));
}

/// All sums run one after the other on a stream of their own: one order for every rank, whatever the engine's stream
/// does meanwhile. Events fork it from the engine's stream and join it again, which a recording follows.
class NcclRanks final : public DeviceRanks {
  public:
    NcclRanks(const NcclLibrary& nccl, Communicator& ranks, cudaStream_t work, Watch& watch)
        : nccl_(nccl), ranks_(ranks), work_(work), watch_(watch) {
        try {
            open();
        } catch (...) {
            close(false);
            throw;
        }
        watch_ = [this] { look(); };
    }
    ~NcclRanks() override {
        watch_ = nullptr;
        // A rank that leaves in order waits until the others have read what it sent; with one gone there is no order.
        close(!abandoned_ && ranks_.check().ok());
    }

    int size() const override { return ranks_.size(); }
    std::string description() const override { return nccl_name(nccl_.version); }
    bool recordable() const override { return true; }

    void sum(double* values, std::int64_t count) override {
        start(values, count, ncclFloat64);
        join();
        if (!settled_)
            wait();
    }

    void start_sum(float* values, std::int64_t count) override {
        start(values, count, ncclFloat32);
        if (!settled_)
            wait();
    }

    void finish_sums() override {
        join();
        settled_ = true;
    }

    void abandon() noexcept override { abandoned_ = true; }

  private:
    void open() {
        ncclUniqueId id{};
        if (ranks_.is_root())
            require(nccl_.get_unique_id(&id), "an id could not be made");
        cuda::check(ranks_.broadcast(std::as_writable_bytes(std::span(&id, 1)), 0));
        check(cudaStreamCreateWithFlags(&sums_, cudaStreamNonBlocking), "a stream could not be made");
        for (cudaEvent_t* event : {&complete_, &summed_})
            check(cudaEventCreateWithFlags(event, cudaEventDisableTiming), "an event could not be made");
        cuda::check(ranks_.barrier()); // from here on a rank that is missing would be waited for
        require(nccl_.init_rank(&communicator_, ranks_.size(), id, ranks_.rank()), "the ranks could not be joined");
    }

    void close(bool in_order) noexcept {
        if (communicator_ != nullptr)
            (void)(in_order ? nccl_.destroy(communicator_) : nccl_.abort(communicator_));
        for (cudaEvent_t* event : {&complete_, &summed_})
            if (*event != nullptr)
                cudaEventDestroy(*event);
        if (sums_ != nullptr)
            cudaStreamDestroy(sums_);
        communicator_ = nullptr;
        complete_ = summed_ = nullptr;
        sums_ = nullptr;
    }

    void require(ncclResult_t result, const char* what) const {
        if (result != ncclSuccess)
            throw EngineError(ErrorCode::backend_failed, text("NCCL: ", what, ": ", nccl_.error_string(result)));
    }

    void start(void* values, std::int64_t count, ncclDataType_t type) {
        if (communicator_ == nullptr)
            throw EngineError(ErrorCode::backend_failed, "NCCL was stopped by an earlier error");
        check(cudaEventRecord(complete_, work_), "an event could not be recorded");
        check(cudaStreamWaitEvent(sums_, complete_, 0), "a stream could not wait");
        require(nccl_.all_reduce(values, values, static_cast<std::size_t>(count), type, ncclSum, communicator_, sums_),
                "a sum could not begin");
    }

    void join() {
        check(cudaEventRecord(summed_, sums_), "an event could not be recorded");
        check(cudaStreamWaitEvent(work_, summed_, 0), "a stream could not wait");
    }

    /// In the first pass kernels are loaded as they are first launched, which may wait for all work of the device and
    /// hold what the other GPUs of the process need: no sum is left under way then. A pass that is recorded before the first
    /// backward pass (a second forward) runs nothing that could be waited for.
    void wait() {
        cudaStreamCaptureStatus capture = cudaStreamCaptureStatusNone;
        check(cudaStreamIsCapturing(work_, &capture), "a stream could not be asked");
        if (capture != cudaStreamCaptureStatusNone)
            return;
        cudaError_t state = cudaErrorNotReady;
        while ((state = cudaStreamQuery(sums_)) == cudaErrorNotReady)
            look();
        check(state, "a sum failed");
    }

    void look() {
        if (communicator_ == nullptr)
            return;
        Status state = ranks_.check();
        ncclResult_t result = ncclSuccess;
        if (state && nccl_.async_error(communicator_, &result) == ncclSuccess && result != ncclSuccess &&
            result != ncclInProgress)
            state = Error{ErrorCode::backend_failed, text("NCCL: a sum failed: ", nccl_.error_string(result)), "NCCL"};
        if (state)
            return;
        (void)nccl_.abort(communicator_); // ends what waits for the others on the device
        communicator_ = nullptr;
        cuda::check(state);
    }

    const NcclLibrary& nccl_;
    Communicator& ranks_;
    cudaStream_t work_;
    Watch& watch_;
    cudaStream_t sums_ = nullptr;
    cudaEvent_t complete_ = nullptr, summed_ = nullptr;
    ncclComm_t communicator_ = nullptr;
    bool settled_ = false; ///< a whole pass is over
    bool abandoned_ = false;
};

} // namespace

std::int64_t nccl_version() {
    const NcclLibrary* library = nccl_library();
    return library == nullptr ? 0 : library->version;
}

std::unique_ptr<DeviceRanks> make_nccl_ranks(Communicator& ranks, void* stream, Watch& watch) {
    return std::make_unique<NcclRanks>(*nccl_library(), ranks, static_cast<cudaStream_t>(stream), watch);
}

} // namespace mfres::cuda

#else

namespace mfres::cuda {

std::int64_t nccl_version() {
    return 0;
}

std::unique_ptr<DeviceRanks> make_nccl_ranks(Communicator&, void*, Watch&) {
    throw EngineError(ErrorCode::backend_unavailable, "this build is without NCCL");
}

} // namespace mfres::cuda

#endif
