// SPDX-License-Identifier: MIT
// Reading PyTorch checkpoints: the zip archive and the tensors described by its pickle.
#include "exchange/state_dict.h"

#include "core/checked.h"
#include "core/file.h"
#include "core/guard.h"
#include "core/try.h"

#include "core/half.h"
#include "exchange/pickle.h"
#include "model/tensor_file.h"

#include <zip.h>

#include <cmath>
#include <cstring>
#include <memory>
#include <optional>

namespace mfres {

namespace {

using pickle::Document;
using pickle::Kind;
using pickle::Value;

Error invalid(const std::string& problem) {
    return {ErrorCode::model_header_invalid, problem, {}};
}

/// A zip archive in memory. All entries must be uncompressed, so that none is larger than the file.
class Archive {
  public:
    static Result<Archive> open(std::span<const std::byte> bytes) {
        return open(bytes.size(),
                    [&](zip_error_t* error) { return zip_source_buffer_create(bytes.data(), bytes.size(), 0, error); });
    }
    static Result<Archive> open(const std::filesystem::path& path, std::uint64_t file_bytes) {
        return open(file_bytes, [&](zip_error_t* error) { return zip_source_file_create(path.c_str(), 0, -1, error); });
    }

    std::uint64_t file_bytes() const { return file_bytes_; }

  private:
    template <typename Source>
    static Result<Archive> open(std::uint64_t file_bytes, const Source& make_source) {
        zip_error_t error;
        zip_error_init(&error);
        zip_source_t* source = make_source(&error);
        zip_t* handle = source != nullptr ? zip_open_from_source(source, ZIP_RDONLY | ZIP_CHECKCONS, &error) : nullptr;
        if (handle == nullptr) {
            const std::string reason = zip_error_strerror(&error);
            if (source != nullptr)
                zip_source_free(source);
            zip_error_fini(&error);
            return invalid(
                text("no PyTorch checkpoint since version 1.6, or one that is damaged or cut off: ", reason));
        }
        zip_error_fini(&error);
        Archive archive;
        archive.handle_.reset(handle);
        archive.file_bytes_ = file_bytes;
        MFRES_CHECK(archive.list());
        return archive;
    }

  public:
    /// The name in front of "/data.pkl", which every entry starts with.
    const std::string& prefix() const { return prefix_; }

    /// Size of an entry. Errors: model_truncated if there is none of that name.
    Result<std::uint64_t> size_of(const std::string& name) const {
        const auto found = sizes_.find(name);
        if (found == sizes_.end())
            return Error{ErrorCode::model_truncated, text("the archive has no entry ", printable(name)), {}};
        return found->second;
    }

    /// An entry of at most `most` bytes.
    Result<std::vector<std::byte>> read(const std::string& name, std::uint64_t most) const {
        MFRES_TRY(const std::uint64_t size, size_of(name));
        if (size > most)
            return invalid(text("entry ", printable(name), " has ", size, " bytes, the most are ", most));
        std::vector<std::byte> content(static_cast<std::size_t>(size));
        zip_file_t* file = zip_fopen(handle_.get(), name.c_str(), 0);
        if (file == nullptr)
            return invalid(text("entry ", printable(name), " cannot be opened: ", zip_strerror(handle_.get())));
        const zip_int64_t got = zip_fread(file, content.data(), content.size());
        std::byte beyond{};
        const bool whole = got == static_cast<zip_int64_t>(content.size()) && zip_fread(file, &beyond, 1) == 0;
        zip_fclose(file);
        if (!whole)
            return invalid(text("entry ", printable(name), " is damaged: its checksum or length is wrong"));
        return content;
    }

  private:
    Status list() {
        const zip_int64_t count = zip_get_num_entries(handle_.get(), 0);
        std::uint64_t covered = 0;
        for (zip_int64_t i = 0; i < count; ++i) {
            zip_stat_t about;
            constexpr zip_uint64_t needed = ZIP_STAT_NAME | ZIP_STAT_SIZE | ZIP_STAT_COMP_METHOD;
            if (zip_stat_index(handle_.get(), static_cast<zip_uint64_t>(i), 0, &about) != 0 ||
                (about.valid & needed) != needed)
                return invalid(text("entry ", i, " of the archive cannot be read"));
            const std::string name = about.name;
            if (name.find("/code/__torch__") != name.npos)
                return invalid("it is a TorchScript program; save its weights alone, in Python: "
                               "torch.save(torch.jit.load(\"script.pt\").state_dict(), \"weights.pth\")");
            const bool encrypted =
                (about.valid & ZIP_STAT_ENCRYPTION_METHOD) != 0 && about.encryption_method != ZIP_EM_NONE;
            if (about.comp_method != ZIP_CM_STORE || encrypted || about.size > file_bytes_)
                return invalid(text("entry ", printable(name),
                                    " is compressed or encrypted or larger than the file; PyTorch stores entries as "
                                    "they are"));
            // Each entry has a header of 30 bytes at least, and one of 46 in the directory.
            covered += about.size + 76;
            if (covered > file_bytes_)
                return invalid(text("the entries up to ", printable(name), " need ", covered, " bytes, the file has ",
                                    file_bytes_, ": they overlap"));
            if (!sizes_.emplace(name, about.size).second)
                return invalid(text("entry ", printable(name), " occurs twice in the archive"));
            constexpr std::string_view pickle_name = "/data.pkl";
            if (name.ends_with(pickle_name)) {
                if (!prefix_.empty())
                    return invalid("the archive holds two pickles");
                prefix_ = name.substr(0, name.size() - pickle_name.size());
            }
        }
        return prefix_.empty() ? Status(invalid("the archive holds no data.pkl")) : Status();
    }

    struct Close {
        void operator()(zip_t* handle) const { zip_discard(handle); }
    };
    std::unique_ptr<zip_t, Close> handle_;
    std::uint64_t file_bytes_ = 0;
    std::map<std::string, zip_uint64_t> sizes_;
    std::string prefix_;
};

float element(const std::byte* at, Dtype dtype) {
    if (dtype == Dtype::f64) {
        double value = 0.0;
        std::memcpy(&value, at, sizeof value);
        return static_cast<float>(value);
    }
    if (dtype == Dtype::f32) {
        float value = 0.0F;
        std::memcpy(&value, at, sizeof value);
        return value;
    }
    std::uint16_t bits = 0;
    std::memcpy(&bits, at, sizeof bits);
    return dtype == Dtype::f16 ? f16_to_f32(bits) : bf16_to_f32(bits);
}

/// Reads the tensors of a checkpoint; storages that several tensors share are read once.
class TensorReader {
  public:
    /// Limits the total number of elements to `most`, because tensors may share one storage many times.
    TensorReader(const Archive& archive, const Document& document, std::uint64_t most)
        : archive_(archive), document_(document), left_(static_cast<std::int64_t>(most)) {}

    /// The tensors of the dictionary that `prefix` leads to, and of the prefix what is left then.
    Result<StateDict> run(std::string_view& prefix) {
        MFRES_TRY(const Value* dictionary, state_dict(prefix));
        MFRES_CHECK(check_entries(*dictionary));
        StateDict tensors;
        for (std::size_t i = 0; i + 1 < dictionary->items.size(); i += 2) {
            const Value& key = document_.at(dictionary->items[i]);
            const Value& value = document_.at(dictionary->items[i + 1]);
            if (key.kind != Kind::text || value.kind != Kind::tensor)
                return invalid(text("entry ", printable(key.text), " of the dictionary is not a named tensor"));
            MFRES_TRY(std::optional<Tensor> tensor, read(key.text, value));
            if (!tensor)
                continue;
            // The last one of equal names is kept, as in Python.
            tensors.insert_or_assign(key.text, std::move(*tensor));
        }
        if (tensors.empty())
            return invalid("the checkpoint holds no tensors");
        return tensors;
    }

  private:
    Result<const Value*> state_dict(std::string_view& prefix) const {
        const Value* here = &document_.at(document_.root);
        if (here->kind != Kind::dictionary)
            return invalid("the checkpoint is no dictionary");
        bool descended = false;
        for (const Value* inner = entry(*here, prefix); inner != nullptr; inner = entry(*here, prefix)) {
            here = inner;
            descended = true;
        }
        if (!descended)
            for (std::string_view usual : {"state_dict", "model_state_dict"})
                if (const Value* inner = entry(*here, usual))
                    return inner;
        return here;
    }

    /// The dictionary under the first words of a dotted name, which is what follows them then; null if there is none.
    const Value* entry(const Value& dictionary, std::string_view& name) const {
        for (std::size_t i = 0; i + 1 < dictionary.items.size(); i += 2) {
            const Value& key = document_.at(dictionary.items[i]);
            const Value& value = document_.at(dictionary.items[i + 1]);
            const bool begins = key.kind == Kind::text && !key.text.empty() && name.starts_with(key.text) &&
                                (name.size() == key.text.size() || name[key.text.size()] == '.');
            if (!begins || value.kind != Kind::dictionary)
                continue;
            name.remove_prefix(std::min(name.size(), key.text.size() + 1));
            return &value;
        }
        return nullptr;
    }

    std::size_t count_tensors(const Value& dictionary) const {
        std::size_t count = 0;
        for (std::size_t i = 1; i < dictionary.items.size(); i += 2)
            count += document_.at(dictionary.items[i]).kind == Kind::tensor ? 1 : 0;
        return count;
    }

    /// A dictionary that holds dictionaries with tensors: which prefix leads to them.
    Status check_entries(const Value& dictionary) const {
        std::string choices;
        for (std::size_t i = 0; i + 1 < dictionary.items.size(); i += 2) {
            const Value& key = document_.at(dictionary.items[i]);
            const Value& value = document_.at(dictionary.items[i + 1]);
            const std::size_t count = value.kind == Kind::dictionary ? count_tensors(value) : 0;
            if (key.kind == Kind::text && count > 0)
                choices += text(choices.empty() ? "" : ", ", "'", printable(key.text), "' (", count, " tensors)");
        }
        if (choices.empty())
            return {};
        return invalid(
            text("the tensors lie below the checkpoint's entry ", choices, "; --prefix NAME reads those of one entry"));
    }

    /// The extents or strides in a tuple.
    Result<std::vector<std::int64_t>> whole_numbers(const std::string& name, pickle::Handle handle) const {
        std::vector<std::int64_t> numbers;
        for (const pickle::Handle item : document_.at(handle).items) {
            const Value& value = document_.at(item);
            if (value.kind != Kind::integer || value.number < 0)
                return invalid(text("tensor ", printable(name), " has an extent or stride that is not an integer"));
            numbers.push_back(value.number);
        }
        return numbers;
    }

    /// Nothing for tensors of integers.
    Result<std::optional<Tensor>> read(const std::string& name, const Value& value) {
        const Value& storage = document_.at(value.items[0]);
        MFRES_TRY(const auto size, whole_numbers(name, value.items[2]));
        MFRES_TRY(const auto stride, whole_numbers(name, value.items[3]));
        if (storage.dtype == Dtype::i64 || storage.dtype == Dtype::i32)
            return std::optional<Tensor>();
        if (storage.dtype != Dtype::f32 && storage.dtype != Dtype::f64 && storage.dtype != Dtype::f16 &&
            storage.dtype != Dtype::bf16)
            return Error{ErrorCode::model_dtype_unsupported,
                         text("tensor ", printable(name), " has type ", mfres::name(storage.dtype),
                              "; F32, F64, F16 and BF16 are read"),
                         {}};
        if (size.size() != stride.size() || size.size() > static_cast<std::size_t>(Shape::max_rank))
            return Error{ErrorCode::model_tensor_shape,
                         text("tensor ", printable(name), " has ", size.size(), " axes and ", stride.size(),
                              " strides; up to ", Shape::max_rank, " axes are read"),
                         {}};
        MFRES_TRY(const std::vector<std::byte>* bytes, storage_bytes(storage));
        const std::int64_t offset = document_.at(value.items[1]).number;
        MFRES_CHECK(check_reach(name, size, stride, offset, storage.number));
        left_ -= Shape(std::span(size)).elements();
        if (left_ < 0)
            return Error{
                ErrorCode::memory_limit, "the tensors share storages and together are larger than the file", {}};
        return copy(name, *bytes, storage.dtype, Shape(std::span(size)), stride, offset);
    }

    Status check_reach(const std::string& name, const std::vector<std::int64_t>& size,
                       const std::vector<std::int64_t>& stride, std::int64_t offset, std::int64_t available) const {
        const auto count = checked_product(size);
        std::optional<std::int64_t> last = offset < 0 ? std::nullopt : std::optional(offset);
        for (std::size_t axis = 0; axis < size.size() && last; ++axis) {
            const auto span = size[axis] > 0 ? checked_multiply(size[axis] - 1, stride[axis]) : std::nullopt;
            last = span ? checked_add(*last, *span) : std::nullopt;
        }
        // Strides of 0 could make a huge tensor of a small storage.
        if (!count || !last || *last >= available || *count > available)
            return Error{
                ErrorCode::model_tensor_size,
                text("tensor ", printable(name), " is empty or reaches beyond its storage of ", available, " elements"),
                {}};
        return {};
    }

    Result<const std::vector<std::byte>*> storage_bytes(const Value& storage) {
        const auto known = storages_.find(storage.text);
        if (known != storages_.end() &&
            known->second.size() ==
                static_cast<std::size_t>(storage.number) * static_cast<std::size_t>(element_bytes(storage.dtype)))
            return &known->second;
        const std::string name = archive_.prefix() + "/data/" + storage.text;
        MFRES_TRY(const std::uint64_t size, archive_.size_of(name));
        const auto wanted = checked_multiply(storage.number, element_bytes(storage.dtype));
        if (!wanted || static_cast<std::uint64_t>(*wanted) != size)
            return Error{ErrorCode::model_tensor_size,
                         text("storage ", printable(storage.text), " has ", size, " bytes for ", storage.number,
                              " elements of type ", mfres::name(storage.dtype)),
                         {}};
        MFRES_TRY(std::vector<std::byte> bytes, archive_.read(name, size));
        return &storages_.insert_or_assign(storage.text, std::move(bytes)).first->second;
    }

    static Result<std::optional<Tensor>> copy(const std::string& name, const std::vector<std::byte>& bytes, Dtype dtype,
                                              const Shape& shape, const std::vector<std::int64_t>& stride,
                                              std::int64_t offset) {
        Tensor tensor(shape);
        const auto width = static_cast<std::size_t>(element_bytes(dtype));
        for (std::int64_t i = 0; i < tensor.elements(); ++i) {
            std::int64_t rest = i;
            std::int64_t source = offset;
            for (int axis = shape.rank() - 1; axis >= 0; --axis) {
                source += rest % shape[axis] * stride[static_cast<std::size_t>(axis)];
                rest /= shape[axis];
            }
            tensor[i] = element(bytes.data() + static_cast<std::size_t>(source) * width, dtype);
            if (!std::isfinite(tensor[i]))
                return Error{ErrorCode::model_not_finite,
                             text("value ", i, " of tensor ", printable(name), " is ", tensor[i]),
                             {}};
        }
        return std::optional(std::move(tensor));
    }

    const Archive& archive_;
    const Document& document_;
    std::int64_t left_;
    std::map<std::string, std::vector<std::byte>> storages_;
};

constexpr std::uint64_t most_order_bytes = 64;
constexpr std::uint64_t most_pickle_bytes = std::uint64_t{64} << 20U;

Result<StateDict> read_state(const Result<Archive>& opened, std::string_view& prefix) {
    if (!opened)
        return opened.error();
    const Archive& archive = *opened;
    const auto order = archive.read(archive.prefix() + "/byteorder", most_order_bytes);
    if (order && !(order->size() >= 6 && std::memcmp(order->data(), "little", 6) == 0))
        return Error{ErrorCode::operation_unsupported, "the checkpoint is not little-endian", {}};
    MFRES_TRY(const std::vector<std::byte> data, archive.read(archive.prefix() + "/data.pkl", most_pickle_bytes));
    MFRES_TRY(const Document document, pickle::parse(data));
    return TensorReader(archive, document, archive.file_bytes()).run(prefix);
}

} // namespace

namespace {

Result<StateDict> read_archive(const Result<Archive>& archive, const std::string& path, std::string_view prefix) {
    auto tensors = read_state(archive, prefix);
    if (!tensors)
        return Error{tensors.error().code, text(path, ": ", tensors.error().message), path};
    return without_prefix(std::move(tensors).value(), prefix, path);
}

} // namespace

Result<StateDict> read_torch_state(std::span<const std::byte> bytes, const std::string& path, std::string_view prefix) {
    return read_archive(Archive::open(bytes), path, prefix);
}

Result<StateDict> read_torch_state(const std::filesystem::path& path, std::string_view prefix) {
    return guarded(path, [&]() -> Result<StateDict> {
        MFRES_TRY(const ReadableFile file, open_tensor_file(path));
        return read_archive(Archive::open(path, file.size()), path.string(), prefix);
    });
}

} // namespace mfres
