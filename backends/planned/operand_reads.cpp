// SPDX-License-Identifier: MIT
#include "backends/planned/operand_reads.h"

namespace mfres {

namespace {

/// Adds what an op reads whose output voxel depends on `reach` voxels around it.
void add_around(const LineSpans& needed, const Axes& reach, LineSpans& work, LineSpans& read) {
    if (reach == Axes{}) {
        read.add(needed);
        return;
    }
    work.assign_grown(needed, reach);
    read.add(work);
}

void add_convolution(const Conv& conv, const LineSpans& needed, LineSpans& work, LineSpans& read) {
    Axes reach{};
    bool keeps_grid = true;
    for (std::size_t axis = 0; axis < reach.size(); ++axis) {
        reach[axis] = conv.dilation[axis] * (conv.kernel[axis] / 2);
        keeps_grid =
            keeps_grid && conv.kernel[axis] % 2 == 1 && conv.stride[axis] == 1 && conv.padding[axis] == reach[axis];
    }
    if (keeps_grid)
        add_around(needed, reach, work, read);
    else
        read.set_all();
}

void add_upsampling(const Upsample& upsample, const Shape& operand, const LineSpans& needed, LineSpans& work,
                    LineSpans& read) {
    bool doubles = upsample.mode == Interpolation::trilinear;
    for (std::size_t axis = 0; axis < upsample.output.size(); ++axis)
        doubles = doubles && upsample.output[axis] == 2 * operand[static_cast<int>(axis) + 2];
    if (!doubles) {
        read.set_all();
        return;
    }
    work.assign_halved(needed);
    read.add(work);
}

} // namespace

void add_operand_reads(const Node& node, const Shape& operand, const LineSpans& needed, LineSpans& work,
                       LineSpans& read) {
    if (needed.all() || read.all()) {
        read.set_all();
        return;
    }
    switch (node.kind()) {
    case OpKind::conv: return add_convolution(node.as<Conv>(), needed, work, read);
    case OpKind::upsample: return add_upsampling(node.as<Upsample>(), operand, needed, work, read);
    case OpKind::batch_norm:
    case OpKind::relu:
    case OpKind::leaky_relu:
    case OpKind::add:
    case OpKind::scaled_add:
    case OpKind::concat:
    case OpKind::slice:
    case OpKind::softmax: return add_around(needed, {}, work, read);
    case OpKind::input:
    case OpKind::conv_transpose:
    case OpKind::instance_norm:
    case OpKind::group_norm:
    case OpKind::prelu:
    case OpKind::elu:
    case OpKind::sigmoid:
    case OpKind::multiply:
    case OpKind::max_pool:
    case OpKind::adaptive_avg_pool: return read.set_all();
    }
}

} // namespace mfres
