// SPDX-License-Identifier: MIT
#include "backends/cuda/device_ranks.h"

#include "backends/cuda/engine.h"
#include "core/try.h"

#include <utility>
#include <vector>

namespace mfres::cuda {

namespace {

class LoneDevice final : public DeviceRanks {
  public:
    int size() const override { return 1; }
    std::string description() const override { return "none"; }
    bool recordable() const override { return true; }
    void sum(double*, std::int64_t) override {}
    void start_sum(float*, std::int64_t) override {}
    void finish_sums() override {}
};

class StagedRanks final : public DeviceRanks {
  public:
    StagedRanks(Engine& engine, Communicator& ranks) : engine_(engine), ranks_(ranks) {}

    int size() const override { return ranks_.size(); }
    std::string description() const override { return "mfres:host"; }
    bool recordable() const override { return false; }

    void sum(double* values, std::int64_t count) override {
        std::vector<double> host(static_cast<std::size_t>(count));
        engine_.download(host.data(), values, count * 8);
        check(ranks_.all_reduce_sum(std::span<double>(host)));
        engine_.upload(values, host.data(), count * 8);
    }

    // The device's work is waited for once, at the end.
    void start_sum(float* values, std::int64_t count) override { begun_.push_back({values, count}); }

    void finish_sums() override {
        const auto begun = std::exchange(begun_, {});
        std::vector<std::vector<float>> hosts;
        for (const auto& [values, count] : begun) {
            auto& host = hosts.emplace_back(static_cast<std::size_t>(count));
            engine_.download(host.data(), values, count * 4);
            check(ranks_.start_sum(host));
        }
        check(ranks_.finish_sums());
        for (std::size_t i = 0; i < begun.size(); ++i)
            engine_.upload(begun[i].first, hosts[i].data(), begun[i].second * 4);
    }

  private:
    Engine& engine_;
    Communicator& ranks_;
    std::vector<std::pair<float*, std::int64_t>> begun_;
};

} // namespace

std::unique_ptr<DeviceRanks> make_staged_ranks(Engine& engine, Communicator& ranks) {
    return std::make_unique<StagedRanks>(engine, ranks);
}

std::unique_ptr<DeviceRanks> make_device_ranks(Engine& engine, Communicator& ranks) {
    if (ranks.alone())
        return std::make_unique<LoneDevice>();
    return engine.make_ranks(ranks);
}

std::vector<DeviceIdentity> exchange_identities(Communicator& ranks, const DeviceIdentity& own) {
    std::vector<DeviceIdentity> all(static_cast<std::size_t>(ranks.size()));
    all[static_cast<std::size_t>(ranks.rank())] = own;
    for (int root = 0; root < ranks.size(); ++root)
        check(ranks.broadcast(std::as_writable_bytes(std::span(&all[static_cast<std::size_t>(root)], 1)), root));
    return all;
}

std::string why_not_nccl(std::span<const DeviceIdentity> ranks) {
    for (std::size_t i = 0; i < ranks.size(); ++i) {
        if (ranks[i].nccl == 0)
            return text("rank ", i, " has no NCCL library");
        if (ranks[i].nccl != ranks[0].nccl)
            return text("rank ", i, " has NCCL ", ranks[i].nccl, " and rank 0 ", ranks[0].nccl);
        for (std::size_t other = 0; other < i; ++other)
            if (ranks[i].device[0] == ranks[other].device[0] && ranks[i].device[1] == ranks[other].device[1])
                return text("ranks ", other, " and ", i, " share a device");
    }
    return {};
}

} // namespace mfres::cuda
