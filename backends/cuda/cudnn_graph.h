// SPDX-License-Identifier: MIT
// cuDNN's graph interface (cudnn_backend.h) with owners around its descriptors: an operation graph of one convolution
// and what is fused to it, and the first execution plan that the heuristics offer and this process may use.
#pragma once

#include "backends/cuda/engine.h"

#include <cudnn.h>

#include <memory>
#include <string>
#include <vector>

namespace mfres::cuda {

/// Throws EngineError for anything but success.
void check(cudnnStatus_t status, const char* what);

/// One cudnnBackendDescriptor_t. Attributes are set, then it is finalised, then used.
class Descriptor {
  public:
    explicit Descriptor(cudnnBackendDescriptorType_t type);
    Descriptor(Descriptor&& other) noexcept : handle_(other.handle_) { other.handle_ = nullptr; }
    Descriptor& operator=(Descriptor&& other) noexcept {
        std::swap(handle_, other.handle_);
        return *this;
    }
    ~Descriptor();

    void set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, std::int64_t count,
             const void* values);
    void set(cudnnBackendAttributeName_t name, std::int64_t value) { set(name, CUDNN_TYPE_INT64, 1, &value); }
    void set(cudnnBackendAttributeName_t name, bool value) { set(name, CUDNN_TYPE_BOOLEAN, 1, &value); }
    void set(cudnnBackendAttributeName_t name, float value) { set(name, CUDNN_TYPE_FLOAT, 1, &value); }
    void set(cudnnBackendAttributeName_t name, double value) { set(name, CUDNN_TYPE_DOUBLE, 1, &value); }
    void set(cudnnBackendAttributeName_t name, cudnnDataType_t value) { set(name, CUDNN_TYPE_DATA_TYPE, 1, &value); }
    void set(cudnnBackendAttributeName_t name, const std::vector<std::int64_t>& values) {
        set(name, CUDNN_TYPE_INT64, static_cast<std::int64_t>(values.size()), values.data());
    }
    void set(cudnnBackendAttributeName_t name, const Descriptor& value) {
        set(name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &value.handle_);
    }
    void finalize(const char* what);
    cudnnBackendDescriptor_t handle() const { return handle_; }

  private:
    cudnnBackendDescriptor_t handle_ = nullptr;
};

/// The device that plans are made for: that of a handle, or one that is described and need not be there. Plans for a described
/// device cannot run.
class PlanTarget {
  public:
    /// `handle` has to outlive the plans.
    explicit PlanTarget(cudnnHandle_t handle) : handle_(handle) {}
    /// `properties`: JSON in the form of CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION. Throws EngineError for what cuDNN does not
    /// accept, and where it is older than 9.8.
    static PlanTarget described(const std::string& properties);

    cudnnHandle_t handle() const { return handle_; }
    void set_on_graph(Descriptor& graph) const;
    void set_on_heuristics(Descriptor& heuristics) const;
    void set_on_plan(Descriptor& plan) const;

  private:
    PlanTarget() = default;
    cudnnHandle_t handle_ = nullptr;
    std::shared_ptr<Descriptor> properties_; ///< null with a handle
};

/// What is bound to a tensor of the graph when it runs.
enum class Role : std::int64_t { x = 1, dy, weights, bias, residual, result };

/// Up to `most` plans that compute `spec`, in the heuristics' order; the rest as make_cudnn_convolution().
std::vector<std::unique_ptr<Convolution>> make_cudnn_convolutions(const PlanTarget& target, const ConvolutionSpec& spec,
                                                                  const ConvolutionRules& rules, std::size_t most);

/// The first plan that computes `spec`, or null if cuDNN has none within the rules. Throws EngineError only for what is no
/// question of support.
std::unique_ptr<Convolution> make_cudnn_convolution(const PlanTarget& target, const ConvolutionSpec& spec,
                                                    const ConvolutionRules& rules);

} // namespace mfres::cuda
