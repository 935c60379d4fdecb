// SPDX-License-Identifier: MIT
// What the communicators of this folder share: what each rank contributes to a collective, and how the contributions of
// all ranks are combined.
#pragma once

#include "core/try.h"

#include <mfres/status.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

namespace mfres {

enum class Collective : std::uint8_t { sum_doubles, sum_floats, start_sum, broadcast, barrier };

inline std::string_view name(Collective collective) {
    switch (collective) {
    case Collective::sum_doubles: return "all_reduce_sum of doubles";
    case Collective::sum_floats: return "all_reduce_sum of floats";
    case Collective::start_sum: return "start_sum";
    case Collective::broadcast: return "broadcast";
    case Collective::barrier: return "barrier";
    }
    return {};
}

/// What one rank contributes to a collective.
struct Contribution {
    Collective call = Collective::barrier;
    std::span<std::byte> bytes;
    int root = 0;
};

/// Checks that all ranks made the same call with the same number of bytes and the same root. Error: internal.
inline Status check_agreement(std::span<const Contribution> all) {
    const Contribution& first = all[0];
    for (std::size_t rank = 1; rank < all.size(); ++rank)
        if (const Contribution& other = all[rank];
            other.call != first.call || other.bytes.size() != first.bytes.size() || other.root != first.root)
            return Error{ErrorCode::internal,
                         text("rank 0 called ", name(first.call), " with ", first.bytes.size(), " bytes and root ",
                              first.root, ", rank ", rank, " ", name(other.call), " with ", other.bytes.size(),
                              " bytes and root ", other.root),
                         {}};
    return {};
}

/// Adds to the first in the order of the ranks, so that the bits do not depend on the order of arrival.
template <typename T>
void add_up(std::span<const Contribution> all) {
    auto* total = reinterpret_cast<T*>(all[0].bytes.data());
    for (const Contribution& one : all.subspan(1))
        for (std::size_t i = 0; i < one.bytes.size() / sizeof(T); ++i)
            total[i] += reinterpret_cast<const T*>(one.bytes.data())[i];
}

/// Replaces every contribution by the result. Precondition: check_agreement() is ok, memory is aligned.
inline void combine(std::span<const Contribution> all) {
    std::size_t from = 0;
    switch (all[0].call) {
    case Collective::sum_doubles: add_up<double>(all); break;
    case Collective::sum_floats:
    case Collective::start_sum: add_up<float>(all); break;
    case Collective::broadcast: from = static_cast<std::size_t>(all[0].root); break;
    case Collective::barrier: return;
    }
    for (std::size_t rank = 0; rank < all.size(); ++rank)
        if (rank != from && !all[rank].bytes.empty())
            std::memcpy(all[rank].bytes.data(), all[from].bytes.data(), all[from].bytes.size());
}

/// An error as bytes for another process: its code, and two sentences that end with a zero, cut to what fits into a
/// message that need not wait for its receiver.
std::vector<char> encode_error(const Error& error);
/// The same back, whatever bytes came.
Error decode_error(std::vector<char> bytes);

} // namespace mfres
