// Weights from elsewhere: named tensors as training code saves them (PyTorch's state_dict), brought to the names of one
// of our networks. Sources are safetensors files and PyTorch checkpoints (.pt, .pth).
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

/// Tensors by their names in the file.
using StateDict = std::map<std::string, Tensor, std::less<>>;

/// How names in a file become names of a network. As JSON:
///   {"rules": [{"match": "module\\.(.*)", "name": "$1"}, ...], "ignore": ["aux\\..*", ...]}
/// A name that an "ignore" expression matches is left out; any other gets the "name" of the first rule whose "match"
/// matches it, with $1 ... $9 and $& replaced; one that no rule matches stays as it is. Expressions match whole names, in
/// the part of ECMAScript's syntax that name_pattern.h lists, and in time linear in their length. "num_batches_tracked" of a BatchNorm is always left out: no network computes with it.
class NameMapping {
  public:
    /// Names and expressions may have so many bytes, and so many rules may stand in a file.
    static constexpr std::size_t max_length = 256;
    static constexpr std::size_t max_rules = 256;

    /// Leaves names as they are.
    NameMapping() = default;

    /// Errors: json_invalid (no JSON, nested too deeply, other keys or types), invalid_argument (an expression that is
    /// none, or uses what the matcher does not know; too many or too long). The message names the rule.
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

/// The tensors of a safetensors file; those of integers (counters) are left out. Errors: those of read_safetensors and
/// decode_tensor.
Result<StateDict> read_safetensors_state(const std::filesystem::path& path);

/// The tensors of a PyTorch checkpoint as torch.save has written it since PyTorch 1.6: a zip archive of a pickle and
/// one uncompressed entry per storage. Nothing of the pickle is executed: a reader of the few opcodes that dictionaries
/// of tensors are made of builds plain values, and knows no function but collections.OrderedDict,
/// torch._utils._rebuild_tensor_v2 and _rebuild_parameter and the types of torch storages. The dictionary is the
/// checkpoint itself or stands in it under "state_dict" or "model_state_dict"; other entries beside that one are
/// ignored. float32, float64, float16 and bfloat16 become floats; tensors of integers (counters) are left out. Errors,
/// `where` is `path`: those of read_file (memory_limit above max_safetensors_bytes); model_header_invalid (no such
/// archive, compressed or encrypted entries, a pickle that is damaged or no dictionary of tensors);
/// operation_unsupported (an opcode or a global outside the list, named); model_truncated (archive, pickle or storage
/// ends early); model_tensor_size (a tensor outside its storage, extents that overflow); model_tensor_shape (more than
/// five axes); model_dtype_unsupported; model_not_finite; operation_unsupported without libzip in this build.
/// A `prefix` such as "model" or "net.module" names a dictionary in the checkpoint, or what names in it begin with, or
/// first one and then the other: see without_prefix. Where the checkpoint needs one, the error says which.
Result<StateDict> read_torch_state(const std::filesystem::path& path, std::string_view prefix = {});

/// The same for a file that was read already.
Result<StateDict> read_torch_state(std::span<const std::byte> bytes, const std::string& path,
                                   std::string_view prefix = {});

/// The tensors whose names begin with the prefix and a dot, without both; all of them for an empty prefix. Errors, `where`
/// is `path`: model_tensor_missing if there are none.
Result<StateDict> without_prefix(StateDict tensors, std::string_view prefix, const std::string& path);

/// A model of `variant` with these weights; modalities and preprocessing are this project's own, which is a promise of
/// whoever trained them. `origin` becomes part of the recipe. Every tensor must be there with its shape and no other:
/// the message lists all that are missing, all that are too many and all of another shape.
/// Errors, `where` is `path`: model_tensor_missing, else model_tensor_extra, else model_tensor_shape;
/// model_metadata_invalid for more input channels than there are modalities; those of parameter_graph.
Result<Model> adopt_weights(const Variant& variant, StateDict tensors, const std::string& path,
                            std::string_view origin);

} // namespace mfres
