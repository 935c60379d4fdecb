// SPDX-License-Identifier: MIT
#include "graph/graph.h"

#include "core/checked.h"
#include "core/try.h"

#include <algorithm>

namespace mfres {

namespace {

/// No extent of a tensor may exceed this; keeps every product of two extents and a kernel far from 64 bits.
constexpr std::int64_t max_extent = std::int64_t{1} << 31;

struct Inferred {
    Shape shape;
    std::vector<Parameter> parameters;
};

Error invalid(std::string message) {
    return {ErrorCode::graph_invalid, std::move(message), {}};
}

/// Shape rule and parameters of each operation. `in` holds the input shapes; their number was checked before.
class Inference {
  public:
    Inference(const std::string& name, const std::vector<Shape>& in) : name_(name), in_(in) {}

    Result<Inferred> operator()(const Input& op) const {
        if (op.shape.rank() != 5)
            return invalid(text("input must have 5 axes [batch, channel, x, y, z], has ", op.shape.rank()));
        return Inferred{op.shape, {}};
    }

    Result<Inferred> operator()(const Conv& op) const {
        const std::int64_t in_channels = in_[0][1];
        if (op.out_channels <= 0 || op.groups <= 0 || in_channels % op.groups != 0 || op.out_channels % op.groups != 0)
            return invalid(text("convolution of ", in_channels, " to ", op.out_channels, " channels cannot have ",
                                op.groups, " groups"));
        Shape out{in_[0][0], op.out_channels, 0, 0, 0};
        for (int axis = 0; axis < 3; ++axis) {
            const auto a = static_cast<std::size_t>(axis);
            if (op.kernel[a] <= 0 || op.stride[a] <= 0 || op.dilation[a] <= 0 || op.padding[a] < 0 ||
                op.kernel[a] > 1024 || op.stride[a] > 1024 || op.dilation[a] > 1024 || op.padding[a] > 1024)
                return invalid(text("kernel, stride and dilation must be 1..1024 and padding 0..1024, on axis ", axis,
                                    " they are ", op.kernel[a], ", ", op.stride[a], ", ", op.dilation[a], ", ",
                                    op.padding[a]));
            const std::int64_t window = op.dilation[a] * (op.kernel[a] - 1) + 1;
            const std::int64_t padded = in_[0][axis + 2] + 2 * op.padding[a];
            if (padded < window)
                return invalid(text("axis ", axis, " has ", padded, " voxels with padding, the kernel spans ", window));
            out[axis + 2] = (padded - window) / op.stride[a] + 1;
        }
        std::vector<Parameter> parameters{
            {name_ + ".weight",
             Shape{op.out_channels, in_channels / op.groups, op.kernel[0], op.kernel[1], op.kernel[2]},
             ParameterRole::weight}};
        if (op.bias)
            parameters.push_back({name_ + ".bias", Shape{op.out_channels}, ParameterRole::bias});
        return Inferred{out, std::move(parameters)};
    }

    Result<Inferred> operator()(const ConvTranspose& op) const {
        const std::int64_t in_channels = in_[0][1];
        if (op.out_channels <= 0 || op.groups <= 0 || in_channels % op.groups != 0 || op.out_channels % op.groups != 0)
            return invalid(text("transposed convolution of ", in_channels, " to ", op.out_channels,
                                " channels cannot have ", op.groups, " groups"));
        Shape out{in_[0][0], op.out_channels, 0, 0, 0};
        for (int axis = 0; axis < 3; ++axis) {
            const auto a = static_cast<std::size_t>(axis);
            if (op.kernel[a] <= 0 || op.stride[a] <= 0 || op.padding[a] < 0 || op.kernel[a] > 1024 ||
                op.stride[a] > 1024 || op.padding[a] > 1024 || op.output_padding[a] < 0 ||
                op.output_padding[a] >= op.stride[a])
                return invalid(
                    text("kernel and stride must be 1..1024, padding 0..1024 and output padding less than the "
                         "stride, on axis ",
                         axis, " they are ", op.kernel[a], ", ", op.stride[a], ", ", op.padding[a], ", ",
                         op.output_padding[a]));
            out[axis + 2] =
                (in_[0][axis + 2] - 1) * op.stride[a] - 2 * op.padding[a] + op.kernel[a] + op.output_padding[a];
        }
        std::vector<Parameter> parameters{
            {name_ + ".weight",
             Shape{in_channels, op.out_channels / op.groups, op.kernel[0], op.kernel[1], op.kernel[2]},
             ParameterRole::weight}};
        if (op.bias)
            parameters.push_back({name_ + ".bias", Shape{op.out_channels}, ParameterRole::bias});
        return Inferred{out, std::move(parameters)};
    }

    Result<Inferred> operator()(const BatchNorm& op) const {
        return norm(op.epsilon,
                    {{".running_mean", ParameterRole::running_mean}, {".running_var", ParameterRole::running_var}});
    }

    Result<Inferred> operator()(const InstanceNorm& op) const { return norm(op.epsilon, {}); }

    Result<Inferred> operator()(const GroupNorm& op) const {
        if (op.groups <= 0 || in_[0][1] % op.groups != 0)
            return invalid(text("cannot split ", in_[0][1], " channels into ", op.groups, " groups"));
        return norm(op.epsilon, {});
    }

    Result<Inferred> operator()(const PRelu&) const {
        return Inferred{in_[0], {{name_ + ".weight", Shape{in_[0][1]}, ParameterRole::slope}}};
    }
    Result<Inferred> operator()(const Elu&) const { return Inferred{in_[0], {}}; }
    Result<Inferred> operator()(const Sigmoid&) const { return Inferred{in_[0], {}}; }

    Result<Inferred> operator()(const Multiply&) const {
        for (int axis = 0; axis < 5; ++axis)
            if (in_[1][axis] != in_[0][axis] && (axis == 0 || in_[1][axis] != 1))
                return invalid(text("cannot multiply ", to_string(in_[0]), " by ", to_string(in_[1])));
        return Inferred{in_[0], {}};
    }

    Result<Inferred> operator()(const Relu&) const { return Inferred{in_[0], {}}; }
    Result<Inferred> operator()(const LeakyRelu&) const { return Inferred{in_[0], {}}; }
    Result<Inferred> operator()(const Softmax&) const { return Inferred{in_[0], {}}; }

    Result<Inferred> operator()(const Add&) const {
        MFRES_CHECK(equal_shapes());
        return Inferred{in_[0], {}};
    }

    Result<Inferred> operator()(const ScaledAdd&) const {
        MFRES_CHECK(equal_shapes());
        std::vector<Parameter> parameters;
        for (std::size_t i = 0; i < in_.size(); ++i)
            parameters.push_back({text(name_, ".weight", i + 1), Shape{1}, ParameterRole::branch});
        return Inferred{in_[0], std::move(parameters)};
    }

    Result<Inferred> operator()(const Concat&) const {
        Shape out = in_[0];
        for (std::size_t i = 1; i < in_.size(); ++i) {
            out[1] += in_[i][1];
            Shape expected = in_[0];
            expected[1] = in_[i][1];
            if (!(expected == in_[i]))
                return invalid(text("cannot concatenate ", to_string(in_[0]), " and ", to_string(in_[i]),
                                    ": they differ in more than channels"));
        }
        return Inferred{out, {}};
    }

    Result<Inferred> operator()(const Slice& op) const {
        if (op.begin < 0 || op.begin >= op.end || op.end > in_[0][1])
            return invalid(text("cannot take channels ", op.begin, " to ", op.end, " of ", in_[0][1]));
        Shape out = in_[0];
        out[1] = op.end - op.begin;
        return Inferred{out, {}};
    }

    Result<Inferred> operator()(const MaxPool& op) const {
        Shape out = in_[0];
        for (int axis = 0; axis < 3; ++axis) {
            const auto a = static_cast<std::size_t>(axis);
            const std::int64_t extent = in_[0][axis + 2];
            if (op.kernel[a] <= 0 || op.stride[a] <= 0 || op.kernel[a] > extent)
                return invalid(text("cannot pool ", extent, " voxels on axis ", axis, " by windows of ", op.kernel[a],
                                    " with stride ", op.stride[a]));
            out[axis + 2] = (extent - op.kernel[a]) / op.stride[a] + 1;
        }
        return Inferred{out, {}};
    }

    Result<Inferred> operator()(const AdaptiveAvgPool& op) const { return resized(op.output); }
    Result<Inferred> operator()(const Upsample& op) const { return resized(op.output); }

  private:
    /// A normalisation: a factor and a summand for each channel, and what else it stores for each.
    Result<Inferred> norm(double epsilon, const std::vector<std::pair<const char*, ParameterRole>>& statistics) const {
        if (!(epsilon > 0))
            return invalid(text("epsilon must be positive, is ", epsilon));
        const Shape channels{in_[0][1]};
        std::vector<Parameter> parameters{{name_ + ".weight", channels, ParameterRole::norm_scale},
                                          {name_ + ".bias", channels, ParameterRole::norm_shift}};
        for (const auto& [ending, role] : statistics)
            parameters.push_back({name_ + ending, channels, role});
        return Inferred{in_[0], std::move(parameters)};
    }

    Status equal_shapes() const {
        for (const auto& shape : in_)
            if (!(shape == in_[0]))
                return invalid(text("cannot add ", to_string(in_[0]), " and ", to_string(shape)));
        return {};
    }

    Result<Inferred> resized(const Axes& output) const {
        Shape out = in_[0];
        for (int axis = 0; axis < 3; ++axis) {
            const std::int64_t extent = output[static_cast<std::size_t>(axis)];
            if (extent <= 0)
                return invalid(text("output extent on axis ", axis, " must be positive, is ", extent));
            out[axis + 2] = extent;
        }
        return Inferred{out, {}};
    }

    const std::string& name_;
    const std::vector<Shape>& in_;
};

/// How many inputs an operation takes.
struct Arity {
    std::size_t least, most;
};

Arity arity(OpKind kind) {
    constexpr std::size_t any = 1U << 16U;
    switch (kind) {
    case OpKind::input: return {0, 0};
    case OpKind::conv:
    case OpKind::conv_transpose:
    case OpKind::batch_norm:
    case OpKind::instance_norm:
    case OpKind::group_norm:
    case OpKind::relu:
    case OpKind::leaky_relu:
    case OpKind::prelu:
    case OpKind::elu:
    case OpKind::sigmoid:
    case OpKind::slice:
    case OpKind::max_pool:
    case OpKind::adaptive_avg_pool:
    case OpKind::upsample:
    case OpKind::softmax: return {1, 1};
    case OpKind::multiply: return {2, 2};
    case OpKind::add:
    case OpKind::scaled_add: return {2, any};
    case OpKind::concat: return {1, any};
    }
    return {0, 0};
}

} // namespace

bool Graph::is_output(NodeId id) const {
    return std::find(outputs_.begin(), outputs_.end(), id) != outputs_.end();
}

std::vector<std::vector<NodeId>> Graph::consumers() const {
    std::vector<std::vector<NodeId>> readers(nodes_.size());
    for (NodeId id = 0; id < size(); ++id)
        for (const NodeId input : node(id).inputs)
            readers[static_cast<std::size_t>(input)].push_back(id);
    return readers;
}

void GraphBuilder::fail(const std::string& node, std::string message) {
    if (!error_)
        error_ = Error{ErrorCode::graph_invalid, text("node ", node, ": ", message), node};
}

NodeId GraphBuilder::input(const Shape& shape, std::string name) {
    return add(std::move(name), Input{shape}, {});
}

NodeId GraphBuilder::add(std::string name, Op op, std::vector<NodeId> inputs) {
    if (error_)
        return -1;
    const OpKind kind = kind_of(op);
    const auto reject = [&](std::string message) {
        fail(name, std::move(message));
        return NodeId{-1};
    };
    if (name.empty() || names_.count(name) > 0)
        return reject(text("the name '", name, "' is empty or taken; names must be unique"));
    if ((kind == OpKind::input) != (graph_.size() == 0))
        return reject("a network has exactly one input and it comes first");
    const Arity expected = arity(kind);
    if (inputs.size() < expected.least || inputs.size() > expected.most)
        return reject(text(mfres::name(kind), " cannot take ", inputs.size(), " inputs"));
    std::vector<Shape> shapes;
    for (const NodeId input : inputs) {
        if (!valid(input))
            return reject(text("input ", input, " is not a node built before this one"));
        shapes.push_back(graph_.node(input).shape);
    }
    auto inferred = std::visit(Inference(name, shapes), op);
    if (!inferred)
        return reject(inferred.error().message);
    for (const std::int64_t extent : inferred->shape)
        if (extent <= 0 || extent > max_extent)
            return reject(text("output shape ", to_string(inferred->shape), " has an extent outside 1..", max_extent));
    // Bytes of f32, and headroom for counters that multiply elements by a kernel volume.
    if (!checked_product(inferred->shape) || inferred->shape.elements() > (std::int64_t{1} << 40))
        return reject(text("output shape ", to_string(inferred->shape), " has too many elements"));

    const NodeId id = graph_.size();
    names_.emplace(name, id);
    graph_.nodes_.push_back(
        Node{std::move(name), std::move(op), std::move(inputs), inferred->shape, std::move(inferred->parameters)});
    return id;
}

NodeId GraphBuilder::upsample2(std::string name, NodeId x, Interpolation mode) {
    const Shape from = shape(x);
    if (from.rank() != 5)
        return -1;
    return upsample(std::move(name), x, mode, {2 * from[2], 2 * from[3], 2 * from[4]});
}

Shape GraphBuilder::shape(NodeId id) const {
    return error_ || !valid(id) ? Shape{} : graph_.node(id).shape;
}

void GraphBuilder::output(NodeId id) {
    if (error_)
        return;
    if (!valid(id))
        return fail("output", text("node ", id, " does not exist"));
    graph_.outputs_.push_back(id);
}

Result<Graph> GraphBuilder::finish() {
    if (!error_ && graph_.outputs_.empty())
        fail("output", "the network has no output");
    if (error_)
        return *error_;
    return std::move(graph_);
}

/// A BatchNorm divides by the square root of its running variance.
static Status check_variances(const std::string& name, const Tensor& variances) {
    for (std::int64_t i = 0; i < variances.elements(); ++i)
        if (variances[i] < 0.0F)
            return Error{
                ErrorCode::model_not_finite,
                text("tensor ", name, " has ", variances[i], " at index ", i, "; a running variance is 0 or above"),
                name};
    return {};
}

Status check_weights(const Graph& graph, const Weights& weights) {
    std::size_t known = 0;
    for (const Node& node : graph.nodes()) {
        for (const Parameter& parameter : node.parameters) {
            const auto found = weights.find(parameter.name);
            if (found == weights.end())
                return Error{ErrorCode::model_tensor_missing,
                             text("tensor ", parameter.name, " (", to_string(parameter.shape), ") is missing"),
                             parameter.name};
            if (!(found->second.shape() == parameter.shape))
                return Error{ErrorCode::model_tensor_shape,
                             text("tensor ", parameter.name, " is ", to_string(found->second.shape()),
                                  ", the network needs ", to_string(parameter.shape)),
                             parameter.name};
            if (parameter.role == ParameterRole::running_var)
                MFRES_CHECK(check_variances(parameter.name, found->second));
            ++known;
        }
    }
    if (known == weights.size())
        return {};
    std::map<std::string_view, bool> wanted;
    for (const Node& node : graph.nodes())
        for (const Parameter& parameter : node.parameters)
            wanted.emplace(parameter.name, true);
    for (const auto& [name, tensor] : weights)
        if (wanted.count(name) == 0)
            return Error{ErrorCode::model_tensor_extra,
                         text("tensor ", name, " (", to_string(tensor.shape()), ") is not part of the network; ",
                              weights.size() - known, " such tensors in all"),
                         name};
    return {};
}

} // namespace mfres
