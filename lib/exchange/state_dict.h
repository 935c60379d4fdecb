// SPDX-License-Identifier: MIT
// Import of PyTorch state_dicts: named tensors from safetensors files or PyTorch checkpoints (.pt, .pth), renamed to
// the parameters of a registered network.
#pragma once

#include "exchange/name_pattern.h"
#include "model/model.h"

#include <mfres/status.h>

#include <cstddef>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace mfres {

/// Tensors by name in the file.
using StateDict = std::map<std::string, Tensor, std::less<>>;

/// Maps names in a file to parameter names. As JSON:
///   {"rules": [{"match": "module\\.(.*)", "name": "$1"}, ...], "ignore": ["aux\\..*", ...]}
/// A name that matches an "ignore" expression is dropped. Any other name gets the "name" of the first rule whose
/// "match" matches it, with $1 ... $9 and $& replaced. A name without a matching rule is unchanged. Expressions
/// (ECMAScript) match whole names. "num_batches_tracked" of a BatchNorm is always dropped, because inference does not
/// use it.
class NameMapping {
  public:
    /// Limits on the length of names and expressions in bytes and on the number of rules, because stack and time of
    /// std::regex grow with all three.
    static constexpr std::size_t max_length = 256;
    static constexpr std::size_t max_rules = 256;

    /// The identity.
    NameMapping() = default;

    /// Errors: json_invalid (not JSON, other keys or types), invalid_argument (an invalid expression; too many or too
    /// long ones). The message names the rule.
    static Result<NameMapping> parse(std::string_view json);

    /// The tensors under their new names. Errors, `where` is `path`: model_header_invalid (a name longer than
    /// max_length, two tensors that get one name).
    Result<StateDict> apply(StateDict tensors, const std::string& path) const;

  private:
    struct Rule {
        NamePattern match;
        std::string name;
    };
    std::vector<Rule> rules_;
    std::vector<NamePattern> ignore_;
};

/// The tensors of a safetensors file. Integer tensors (counters) are skipped. Errors: those of read_safetensors and
/// decode_tensor.
Result<StateDict> read_safetensors_state(const std::filesystem::path& path);

/// The tensors of a PyTorch checkpoint as torch.save has written it since PyTorch 1.6: a zip archive of a pickle and
/// one uncompressed entry per storage. Nothing of the pickle is executed: the few opcodes that dictionaries of tensors
/// need build plain values, and the only globals accepted are collections.OrderedDict, torch._utils._rebuild_tensor_v2,
/// _rebuild_parameter and the types of torch storages. The dictionary is the checkpoint itself or its entry
/// "state_dict" or "model_state_dict"; other entries are ignored. float32, float64, float16 and bfloat16 become floats;
/// integer tensors (counters) are skipped. Errors,
/// `where` is `path`: those of read_file (memory_limit above max_safetensors_bytes); model_header_invalid (not such an
/// archive, compressed or encrypted entries, a pickle that is damaged or not a dictionary of tensors);
/// operation_unsupported (an opcode or a global outside the list, named); model_truncated (archive, pickle or storage
/// ends early); model_tensor_size (a tensor outside its storage, extents that overflow); model_tensor_shape (more than
/// five axes); model_dtype_unsupported; model_not_finite; operation_unsupported in a build
/// without PyTorch checkpoints, and backend_unavailable where the module libmfres_torch.so is missing.
/// A `prefix` such as "model" or "net.module" names a dictionary in the checkpoint, or what names in it begin with, or
/// first one and then the other: see without_prefix. Where the checkpoint needs one, the error says which.
Result<StateDict> read_torch_state(const std::filesystem::path& path, std::string_view prefix = {});

/// The same for a file that was read already.
Result<StateDict> read_torch_state(std::span<const std::byte> bytes, const std::string& path,
                                   std::string_view prefix = {});

/// The tensors whose names begin with the prefix and a dot, without both; all of them for an empty prefix. Errors, `where`
/// is `path`: model_tensor_missing if there are none.
Result<StateDict> without_prefix(StateDict tensors, std::string_view prefix, const std::string& path);

/// A model of `variant` with these weights. Its metadata state this project's preprocessing, and no modalities: the
/// caller has to name the contrasts of the input channels in the order that the weights were trained with. `origin` becomes part of the recipe. The tensors must be
/// exactly the network's parameters: the message lists missing tensors, extra ones and those of another shape. Errors,
/// `where` is `path`: model_tensor_missing, else model_tensor_extra, else model_tensor_shape; model_metadata_invalid
/// for more input channels than there are modalities; those of parameter_graph.
Result<Model> adopt_weights(const Variant& variant, StateDict tensors, const std::string& path,
                            std::string_view origin);

} // namespace mfres
