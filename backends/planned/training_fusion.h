// SPDX-License-Identifier: MIT
// Op fusion for training: which ops of a graph are computed together, and which values are read in place.
#pragma once

#include "graph/rewrite.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace mfres {

/// An operand x_k of a fused sum with the function n_k that is applied to it first.
struct SumOperand {
    enum class Kind : std::uint8_t {
        plain,         ///< n_k(x) = x
        batch_norm,    ///< n_k normalises over the batch
        instance_norm, ///< n_k normalises each sample
        weight,        ///< n_k(x) = w_k x, a scaled_add
    };

    NodeId value = -1;
    NodeId norm = -1; ///< the node of n_k if it normalises
    Kind kind = Kind::plain;

    /// Of a plain operand that is not stored: x_k is the channels of activation(n(x)) from `begin` on, n being the norm
    /// `of`, which are computed where they are read. Only the forward op reads them.
    struct Unstored {
        NodeId of = -1;
        NodeId x = -1;
        std::int64_t begin = 0;
        Activation activation;
    };
    std::optional<Unstored> unstored{};

    bool plain() const { return kind == Kind::plain; }
    bool normalises() const { return norm >= 0; }
    /// The value that the forward op reads.
    NodeId read() const { return unstored ? unstored->x : value; }
};

/// y = activation(sum of n_k(x_k))
struct FusedSum {
    NodeId main = -1;   ///< gives the op its name and, for a scaled_add, its weights
    NodeId output = -1; ///< the node whose value is y
    std::vector<SumOperand> operands;
    Activation activation;
    /// If not empty, slices of y that are stored in place of y. They are its only consumers, together with those that are
    /// not stored.
    std::vector<NodeId> slices;
    std::vector<NodeId> unstored; ///< see SumOperand::Unstored

    bool all_plain() const;
};

/// Ops of the graph that one TrainingOp computes.
struct FusedTrainingOp {
    enum class Kind : std::uint8_t {
        convolution,
        sum,
        copy,           ///< a concat, or a slice that a consumer needs as an array of its own
        slice_in_place, ///< a slice whose consumers read the array that it is cut from; nothing is computed
        resampling,     ///< max_pool, adaptive_avg_pool, upsample or softmax
    };
    Kind kind = Kind::convolution;
    NodeId node = -1; ///< the main node, which gives the op its name
    FusedSum sum;     ///< of Kind::sum
    /// Of Kind::convolution: convolutions of the same value that are computed with `node` as one, whose output channels
    /// follow its own.
    std::vector<NodeId> joined;

    /// The nodes whose gradients are the input of the backward op, one behind the other along the channels.
    std::vector<NodeId> results() const;
};

/// What not every engine can do.
struct TrainingFusionRules {
    /// Convolutions of the same value that differ in their output channels alone are one op if a norm or an upsampling is
    /// all that reads each of them. A norm and an upsampling then read, and write the gradient of, a channel range of one
    /// array. Convolutions with groups or biases are not joined.
    bool join_convolutions = false;
    /// A slice of a normalised value that an add alone reads is not stored if another slice is; the add normalises.
    bool unstored_slices = false;
};

/// The fused ops in execution order. A norm is fused with a following activation. A sum is fused with the norms of its
/// operands and with a following activation. A value whose only consumers are slices is stored as these slices. Sums and
/// copies read slices in place.
std::vector<FusedTrainingOp> fuse_training_ops(const Graph& graph, const TrainingFusionRules& rules = {});

/// What the op computes, for listings: "conv", "conv + conv", "norm + norm + add + relu".
std::string describe(const Graph& graph, const FusedTrainingOp& op);

} // namespace mfres
