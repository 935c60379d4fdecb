#include "backends/onednn/convolution.h"

#include "backends/onednn/adapter.h"
#include "backends/onednn/loops.h"
#include "core/try.h"

#include <optional>
#include <unordered_map>

namespace mfres::onednn {

namespace {

using dnnl::memory;

/// One way to say the same convolution. oneDNN has fast kernels for some and a gemm or a naive loop for others, and
/// which depends on the processor.
struct Formulation {
    /// Groups taken together as one, with zeros between them: kernels want whole vectors of channels per group.
    std::int64_t merged_groups = 1;
    /// The volume as a batch of planes (kernel extent 1 along x): 2-D kernels exist for older processors.
    bool planes = false;
    /// Reads a copy with the zeros along z in it: kernels for AVX2 limit the padding there.
    bool padded_copy = false;
    /// Copies the residual to the output first, instead of adding it from where it is.
    bool residual_copy = false;
};

enum class Speed : std::uint8_t { compiled, gemm, naive };

Speed speed_of(const std::string& implementation) {
    if (implementation.find("ref") != std::string::npos)
        return Speed::naive;
    const bool brgemm = implementation.find("brg") != std::string::npos;
    return !brgemm && implementation.find("gemm") != std::string::npos ? Speed::gemm : Speed::compiled;
}

/// Formulations worth asking for, cheapest first.
std::vector<Formulation> formulations(const ConvolutionStep& step) {
    constexpr std::int64_t most_merged_channels = 64; // beyond that the products with zero cost more than they save
    const Conv& conv = step.conv;
    std::vector<bool> as_planes = {false};
    if (conv.kernel[0] == 1 && conv.stride[0] == 1 && conv.padding[0] == 0)
        as_planes.push_back(true);
    std::vector<bool> residual_copies = {false};
    if (step.residual && !step.residual_in_output)
        residual_copies.push_back(true);

    std::vector<Formulation> all;
    for (const bool padded : {false, true}) {
        if (padded && conv.padding[2] == 0)
            continue;
        for (std::int64_t merged = 1; merged <= conv.groups; merged *= 2) {
            if (conv.groups % merged != 0 || (merged > 1 && step.in[1] / conv.groups * merged > most_merged_channels))
                break;
            for (const bool planes : as_planes)
                for (const bool copied : residual_copies)
                    all.push_back({merged, planes, padded, copied});
        }
    }
    return all;
}

/// Extents without x, which joins the batch.
memory::dims activation_dims(const Shape& shape, bool planes, std::int64_t extra_z) {
    if (planes)
        return {shape[0] * shape[2], shape[1], shape[3], shape[4] + extra_z};
    return {shape[0], shape[1], shape[2], shape[3], shape[4] + extra_z};
}

memory::dims axes_dims(const Axes& axes, bool planes, std::int64_t subtract = 0) {
    memory::dims dims;
    for (std::size_t axis = planes ? 1 : 0; axis < 3; ++axis)
        dims.push_back(axes[axis] - subtract);
    return dims;
}

/// [groups,] out per group, in per group, kernel extents; the groups only if there are several.
memory::dims weight_dims(const ConvolutionStep& step, const Formulation& form) {
    memory::dims dims;
    const std::int64_t groups = step.conv.groups / form.merged_groups;
    if (groups > 1)
        dims = {groups};
    dims.push_back(step.conv.out_channels / groups);
    dims.push_back(step.in[1] / groups);
    for (const auto extent : axes_dims(step.conv.kernel, form.planes))
        dims.push_back(extent);
    return dims;
}

/// The geometry of a formulation, weights in whatever format the kernel wants.
ConvolutionGeometry geometry(const ConvolutionStep& step, const Formulation& form) {
    constexpr auto f32 = memory::data_type::f32;
    const Conv& conv = step.conv;
    const auto channels_last = form.planes ? memory::format_tag::nhwc : memory::format_tag::ndhwc;
    const std::int64_t margins = form.padded_copy ? 2 * conv.padding[2] : 0;

    ConvolutionGeometry g;
    g.source = {activation_dims(step.in, form.planes, margins), f32, channels_last};
    g.weights = {weight_dims(step, form), f32, memory::format_tag::any};
    g.bias = {{conv.out_channels}, f32, memory::format_tag::a};
    g.destination = {activation_dims(step.out, form.planes, 0), f32, channels_last};
    g.strides = axes_dims(conv.stride, form.planes);
    g.dilations = axes_dims(conv.dilation, form.planes, 1);
    g.padding_low = axes_dims(conv.padding, form.planes);
    if (form.padded_copy)
        g.padding_low.back() = 0;
    g.padding_high = g.padding_low;
    return g;
}

/// Memory descriptor of the weights [out, in/groups, kernel...] in plain order, for the reorder into the kernel's.
memory::desc plain_weights(const memory::dims& dims) {
    memory::dims strides(dims.size(), 1);
    for (std::size_t i = dims.size() - 1; i-- > 0;)
        strides[i] = strides[i + 1] * dims[i + 1];
    return {dims, memory::data_type::f32, strides};
}

/// Weights of groups taken together: [out, merged * in/groups, taps], zero where an output met another group's input.
AlignedVector<float> merge_groups(const ConvolutionStep& step, std::int64_t merged) {
    const Tensor& from = *step.weights;
    const std::int64_t out_per_group = step.conv.out_channels / step.conv.groups;
    const std::int64_t row = from.elements() / step.conv.out_channels;
    AlignedVector<float> to(static_cast<std::size_t>(from.elements() * merged), 0.0F);
    for (std::int64_t o = 0; o < step.conv.out_channels; ++o) {
        const std::int64_t place = o / out_per_group % merged;
        std::copy_n(from.data() + o * row, row, to.begin() + (o * merged + place) * row);
    }
    return to;
}

class Convolution final : public Operation {
  public:
    Convolution(const ConvolutionStep& step, const dnnl::engine& engine) : step_(step), engine_(engine) {
        choose();
        reorder_weights();
        step_.weights = step_.bias = nullptr; // theirs may go now
    }

    std::string implementation() const override {
        std::string name = descriptor_.impl_info_str();
        if (form_.merged_groups > 1)
            name += text(", groups merged by ", form_.merged_groups);
        if (form_.planes)
            name += ", as planes";
        if (form_.padded_copy)
            name += ", padded copy";
        if (form_.residual_copy)
            name += ", residual copied";
        return name;
    }

    std::int64_t scratch_bytes() const override {
        return engine_scratch_bytes() + (form_.padded_copy ? padded_source_bytes() : 0);
    }

    std::int64_t constant_bytes() const override {
        return static_cast<std::int64_t>(weights_.get_desc().get_size() + bias_.size() * sizeof(float));
    }

    void bind(const Place& place) override {
        place_ = place;
        padded_ = form_.padded_copy ? reinterpret_cast<float*>(place.scratch + engine_scratch_bytes()) : nullptr;
        const auto at = [&](const memory::desc& desc, const void* data) {
            return memory(desc, engine_, const_cast<void*>(data)); // oneDNN has no memory of const
        };
        const float* source = padded_ ? padded_ : place.inputs[0];
        arguments_ = {{DNNL_ARG_SRC, at(descriptor_.src_desc(), source)},
                      {DNNL_ARG_WEIGHTS, weights_},
                      {DNNL_ARG_BIAS, at(descriptor_.bias_desc(), bias_.data())},
                      {DNNL_ARG_DST, at(descriptor_.dst_desc(), place.output)},
                      {DNNL_ARG_SCRATCHPAD, at(descriptor_.scratchpad_desc(), place.scratch)}};
        if (adds_from_elsewhere(form_))
            arguments_.emplace(DNNL_ARG_ATTR_MULTIPLE_POST_OP(0) | DNNL_ARG_SRC_1,
                               at(descriptor_.dst_desc(), place.residual));
        primitive_ = dnnl::convolution_forward(descriptor_);
    }

    void run(dnnl::stream& stream) override {
        if (padded_)
            pad_z({step_.in, step_.threads}, place_.inputs[0], step_.conv.padding[2], padded_);
        if (form_.residual_copy)
            copy_values({step_.out, step_.threads}, place_.residual, place_.output);
        primitive_.execute(stream, arguments_);
    }

  private:
    bool adds_from_elsewhere(const Formulation& form) const {
        return step_.residual && !step_.residual_in_output && !form.residual_copy;
    }

    dnnl::primitive_attr attributes(const Formulation& form, const memory::desc& destination) const {
        dnnl::post_ops operations;
        if (adds_from_elsewhere(form))
            operations.append_binary(dnnl::algorithm::binary_add, destination);
        else if (step_.residual)
            operations.append_sum(1.0F);
        append_activation(operations, step_.activation);
        dnnl::primitive_attr attributes;
        attributes.set_post_ops(operations);
        attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
        return attributes;
    }

    /// Takes the first formulation with a compiled kernel, or the best there is. What oneDNN refuses is passed over;
    /// if it refuses everything, its reason for the plain formulation is thrown.
    void choose() {
        std::optional<Speed> best;
        std::optional<dnnl::error> refusal;
        for (const Formulation& form : formulations(step_)) {
            try {
                const ConvolutionGeometry g = geometry(step_, form);
                auto descriptor = describe(g, attributes(form, g.destination), engine_);
                const Speed speed = speed_of(descriptor.impl_info_str());
                // The gemm kernels of 2.6.3 give wrong sums with a whole tensor as binary operand.
                const bool wrong = speed == Speed::gemm && adds_from_elsewhere(form);
                if (wrong || (best && speed >= *best))
                    continue;
                best = speed;
                form_ = form;
                descriptor_ = std::move(descriptor);
                if (speed == Speed::compiled)
                    return;
            } catch (const dnnl::error& error) {
                if (!refusal)
                    refusal = error;
            }
        }
        if (!best)
            throw refusal.value_or(dnnl::error(dnnl_unimplemented, "there is no usable kernel for this convolution"));
    }

    void reorder_weights() {
        AlignedVector<float> merged;
        if (form_.merged_groups > 1)
            merged = merge_groups(step_, form_.merged_groups);
        const float* plain = merged.empty() ? step_.weights->data() : merged.data();
        memory from(plain_weights(weight_dims(step_, form_)), engine_, const_cast<float*>(plain));
        weights_ = memory(descriptor_.weights_desc(), engine_);
        dnnl::stream stream(engine_);
        dnnl::reorder(from, weights_).execute(stream, from, weights_);
        stream.wait();
        bias_.assign(static_cast<std::size_t>(step_.conv.out_channels), 0.0F);
        if (step_.bias)
            std::copy_n(step_.bias->data(), step_.conv.out_channels, bias_.begin());
    }

    std::int64_t engine_scratch_bytes() const {
        const auto bytes = static_cast<std::int64_t>(descriptor_.scratchpad_desc().get_size());
        return (bytes + 63) / 64 * 64;
    }

    std::int64_t padded_source_bytes() const { return static_cast<std::int64_t>(descriptor_.src_desc().get_size()); }

    ConvolutionStep step_;
    dnnl::engine engine_;
    Formulation form_;
    dnnl::convolution_forward::primitive_desc descriptor_;
    dnnl::convolution_forward primitive_;
    memory weights_;
    AlignedVector<float> bias_;
    Place place_;
    float* padded_ = nullptr;
    std::unordered_map<int, memory> arguments_;
};

} // namespace

std::unique_ptr<Operation> make_convolution(const ConvolutionStep& step, const dnnl::engine& engine) {
    return std::make_unique<Convolution>(step, engine);
}

} // namespace mfres::onednn
