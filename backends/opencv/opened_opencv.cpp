// SPDX-License-Identifier: MIT
// The OpenCV DNN backend as the library sees it: the module libmfres_opencv.so, opened when something asks for it.
#include "backends/backend.h"
#include "core/module.h"
#include "core/try.h"

namespace mfres::opencv {

namespace {

/// Error: those of open_module.
Result<const Backend*> opened() {
    static const auto table = open_module_as<const Backend*>("opencv");
    if (!table)
        return table.error();
    return **table;
}

class OpenedBackend final : public Backend {
  public:
    std::string_view name() const override { return "opencv"; }

    std::string description() const override {
        const auto backend = opened();
        return backend ? (*backend)->description() : "OpenCV DNN, " + backend.error().message;
    }

    Status available() const override {
        MFRES_TRY(const Backend* backend, opened());
        return backend->available();
    }

    std::vector<Unsupported> unsupported(const Graph& graph, const CompileOptions& options) const override {
        const auto backend = opened();
        return backend ? (*backend)->unsupported(graph, options)
                       : std::vector<Unsupported>{{graph.node(graph.input()).name, backend.error().message}};
    }

    std::int64_t engine_bytes() const override { return std::int64_t{16} << 20; } // measured with OpenCV 4.6
    std::int64_t planned_activations(const Graph& graph) const override {
        const auto backend = opened();
        return backend ? (*backend)->planned_activations(graph) : Backend::planned_activations(graph);
    }

  protected:
    Result<std::unique_ptr<Executable>> make_executable(const Graph& graph, const Weights& weights,
                                                        const CompileOptions& options) const override {
        MFRES_TRY(const Backend* backend, opened());
        return backend->compile(graph, weights, options);
    }
};

} // namespace

const Backend& backend() {
    static const OpenedBackend instance;
    return instance;
}

} // namespace mfres::opencv
