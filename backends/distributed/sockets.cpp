// SPDX-License-Identifier: MIT
#ifndef _WIN32 // no_sockets.cpp is there for it

#include "backends/distributed/sockets.h"

#include "backends/distributed/collective.h"
#include "core/sha256.h"
#include "core/try.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <deque>
#include <initializer_list>
#include <optional>
#include <thread>
#include <utility>

namespace mfres {

namespace {

using Clock = std::chrono::steady_clock;

constexpr const char* token_name = "MFRES_TOKEN";
constexpr std::size_t least_token = 16;

std::atomic<bool (*)()> rank_interrupt{nullptr};

bool interrupt_asked() {
    bool (*const asked)() = rank_interrupt;
    return asked != nullptr && asked();
}

Error socket_error(std::string sentence) {
    return {ErrorCode::backend_failed, std::move(sentence), "MASTER_ADDR"};
}

/// A file descriptor that is closed with the object.
class Descriptor {
  public:
    explicit Descriptor(int number = -1) : number_(number) {}
    Descriptor(Descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
    Descriptor& operator=(Descriptor&& other) noexcept {
        std::swap(number_, other.number_);
        return *this;
    }
    ~Descriptor() {
        if (number_ >= 0)
            ::close(number_);
    }
    int number() const { return number_; }
    bool valid() const { return number_ >= 0; }

  private:
    int number_;
};

void put(std::byte* to, std::uint64_t value, std::size_t bytes) {
    for (std::size_t i = 0; i < bytes; ++i)
        to[i] = static_cast<std::byte>(value >> (8 * i) & 0xFFU);
}

std::uint64_t get(const std::byte* from, std::size_t bytes) {
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < bytes; ++i)
        value |= std::to_integer<std::uint64_t>(from[i]) << (8 * i);
    return value;
}

// ---- messages -------------------------------------------------------------------------------------------------------

/// What travels before the bytes of a message: 16 bytes, little-endian.
struct Header {
    enum class Kind : std::uint8_t { contribution, result, failure, farewell };
    static constexpr std::size_t wire_bytes = 16;
    using Wire = std::array<std::byte, wire_bytes>;

    Kind kind = Kind::contribution;
    Collective call = Collective::barrier;
    std::int32_t root = 0;
    std::uint64_t bytes = 0;

    Wire encode() const {
        Wire wire{};
        put(wire.data(), static_cast<std::uint64_t>(kind), 1);
        put(wire.data() + 1, static_cast<std::uint64_t>(call), 1);
        put(wire.data() + 4, static_cast<std::uint32_t>(root), 4);
        put(wire.data() + 8, bytes, 8);
        return wire;
    }
    /// Nothing for bytes that no rank sends.
    static std::optional<Header> decode(const Wire& wire) {
        const std::uint64_t kind = get(wire.data(), 1);
        const std::uint64_t call = get(wire.data() + 1, 1);
        if (kind > static_cast<std::uint64_t>(Kind::farewell) ||
            call > static_cast<std::uint64_t>(Collective::barrier) || get(wire.data() + 2, 2) != 0)
            return std::nullopt;
        return Header{static_cast<Kind>(kind), static_cast<Collective>(call),
                      static_cast<std::int32_t>(get(wire.data() + 4, 4)), get(wire.data() + 8, 8)};
    }
};

struct Message {
    Header header;
    std::vector<std::byte> bytes; ///< aligned for numbers, because operator new allocates it
};

/// Longest failure that is taken; encode_error cuts its sentences to less.
constexpr std::uint64_t most_failure_bytes = 8192;

/// A non-blocking connection with queues of messages.
class Peer {
  public:
    explicit Peer(Descriptor socket = Descriptor()) : socket_(std::move(socket)), heard_(Clock::now()) {}

    int socket() const { return socket_.number(); }
    bool open() const { return socket_.valid() && !gone_; }
    bool left_in_order() const { return farewell_; }
    bool sends() const { return sent_ < out_.size(); }
    /// Whether what comes next can be taken now.
    bool reads() const { return !held_; }
    /// When bytes last went in or out.
    Clock::time_point heard() const { return heard_; }

    void send(Header header, std::span<const std::byte> bytes) {
        header.bytes = bytes.size();
        const Header::Wire head = header.encode();
        out_.erase(out_.begin(), out_.begin() + static_cast<std::ptrdiff_t>(sent_));
        sent_ = 0;
        out_.insert(out_.end(), head.begin(), head.end());
        out_.insert(out_.end(), bytes.begin(), bytes.end());
    }

    void write_some() {
        while (sends()) {
            const auto count = ::send(socket(), out_.data() + sent_, out_.size() - sent_, MSG_NOSIGNAL);
            if (count <= 0)
                return end_if_broken();
            sent_ += static_cast<std::size_t>(count);
            heard_ = Clock::now();
        }
    }

    /// The next collective's message has so many bytes. One that announces another number arrives without its bytes, and
    /// nothing more is read from the peer.
    void expect(std::uint64_t bytes) {
        expected_ = bytes;
        if (held_) {
            held_ = false;
            begin_body();
        }
    }

    void read_some() {
        while (open() && reads()) {
            const bool in_body = head_read_ == head_.size();
            std::byte* const to = in_body ? now_.bytes.data() + body_read_ : head_.data() + head_read_;
            const std::size_t room = in_body ? now_.bytes.size() - body_read_ : head_.size() - head_read_;
            const auto count = ::recv(socket(), to, room, 0);
            if (count == 0) {
                gone_ = true;
                return;
            }
            if (count < 0)
                return end_if_broken();
            heard_ = Clock::now();
            (in_body ? body_read_ : head_read_) += static_cast<std::size_t>(count);
            if (in_body)
                finish_if_complete();
            else if (head_read_ == head_.size())
                take_head();
        }
    }

    std::deque<Message>& arrived() { return arrived_; }

  private:
    void end_if_broken() {
        if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)
            gone_ = true;
    }

    void take_head() {
        const auto header = Header::decode(head_);
        if (!header) {
            gone_ = true; // no rank of ours
            return;
        }
        now_.header = *header;
        switch (header->kind) {
        case Header::Kind::contribution:
        case Header::Kind::result:
            if (expected_)
                begin_body();
            else
                held_ = true;
            return;
        case Header::Kind::failure:
        case Header::Kind::farewell:
            if (header->bytes > (header->kind == Header::Kind::failure ? most_failure_bytes : 0))
                gone_ = true;
            else
                now_.bytes.resize(static_cast<std::size_t>(header->bytes));
            finish_if_complete();
            return;
        }
    }

    void begin_body() {
        if (now_.header.bytes != *expected_) {
            arrived_.push_back(std::move(now_));
            held_ = true; // for good: the ranks do not agree
            expected_.reset();
            return;
        }
        expected_.reset();
        now_.bytes.resize(static_cast<std::size_t>(now_.header.bytes));
        finish_if_complete();
    }

    void finish_if_complete() {
        if (gone_ || body_read_ < now_.bytes.size())
            return;
        if (now_.header.kind == Header::Kind::farewell)
            farewell_ = true;
        else
            arrived_.push_back(std::move(now_));
        now_ = {};
        head_read_ = body_read_ = 0;
    }

    Descriptor socket_;
    bool gone_ = false;
    bool farewell_ = false;
    bool held_ = false; ///< a header is in whose bytes nobody expects yet
    std::optional<std::uint64_t> expected_;
    std::vector<std::byte> out_;
    std::size_t sent_ = 0;
    Header::Wire head_{};
    Message now_;
    std::size_t head_read_ = 0, body_read_ = 0;
    std::deque<Message> arrived_;
    Clock::time_point heard_;
};

/// Waits up to `milliseconds` for an event, then reads and writes without blocking.
void move_messages(std::vector<Peer*> peers, int milliseconds) {
    std::vector<pollfd> polled;
    // A peer of which nothing is wanted now would end the waiting at once when it hangs up.
    std::erase_if(peers, [](const Peer* peer) { return !peer->open() || (!peer->reads() && !peer->sends()); });
    for (const Peer* peer : peers)
        polled.push_back(
            {peer->socket(), static_cast<short>((peer->reads() ? POLLIN : 0) | (peer->sends() ? POLLOUT : 0)), 0});
    if (::poll(polled.data(), polled.size(), milliseconds) <= 0)
        return;
    for (std::size_t i = 0; i < peers.size(); ++i) {
        if ((polled[i].revents & POLLOUT) != 0)
            peers[i]->write_some();
        if ((polled[i].revents & (POLLIN | POLLHUP | POLLERR)) != 0)
            peers[i]->read_some();
    }
}

class SocketRank final : public Communicator {
  public:
    /// `peers` by rank: all others at rank 0, which alone the others have.
    SocketRank(const Launch& launch, std::vector<Peer> peers, SocketTimeouts timeouts)
        : launch_(launch), peers_(std::move(peers)), timeouts_(timeouts) {}
    SocketRank(const SocketRank&) = delete;
    SocketRank& operator=(const SocketRank&) = delete;
    ~SocketRank() override {
        Header farewell;
        farewell.kind = Header::Kind::farewell;
        for (Peer& peer : peers_)
            if (peer.open())
                peer.send(farewell, {});
        flush(std::chrono::seconds(10));
    }

    int rank() const override { return launch_.rank; }
    int size() const override { return launch_.size; }
    int local_rank() const override { return launch_.local_rank; }

    Status all_reduce_sum(std::span<double> values) override {
        return collective({Collective::sum_doubles, std::as_writable_bytes(values), 0});
    }
    Status all_reduce_sum(std::span<float> values) override {
        return collective({Collective::sum_floats, std::as_writable_bytes(values), 0});
    }
    Status start_sum(std::span<float> values) override { // at once
        return collective({Collective::start_sum, std::as_writable_bytes(values), 0});
    }
    Status finish_sums() override { return check(); }
    Status broadcast(std::span<std::byte> bytes, int root) override {
        return collective({Collective::broadcast, bytes, root});
    }
    Status barrier() override { return collective({Collective::barrier, {}, 0}); }

    void fail(const Error& error) override {
        if (failure_)
            return;
        failure_ = error;
        tell(error_on_rank(rank(), error), -1);
        flush(std::chrono::seconds(10));
    }

    Status check() override {
        look(0);
        return failure_ ? Status(*failure_) : Status();
    }

  private:
    std::vector<Peer*> all_peers() {
        std::vector<Peer*> all;
        for (Peer& peer : peers_)
            all.push_back(&peer);
        return all;
    }

    /// Sends a failure to every peer except rank `from`.
    void tell(const Error& error, int from) {
        const std::vector<char> words = encode_error(error);
        Header header;
        header.kind = Header::Kind::failure;
        for (std::size_t i = 0; i < peers_.size(); ++i)
            if (peers_[i].open() && rank_of(i) != from)
                peers_[i].send(header, std::as_bytes(std::span(words)));
    }

    int rank_of(std::size_t peer) const { return launch_.rank == 0 ? static_cast<int>(peer) + 1 : 0; }

    /// Exchanges messages and processes failures. A connection that ends without a farewell counts as a failure.
    void look(int milliseconds) {
        move_messages(all_peers(), milliseconds);
        for (std::size_t i = 0; i < peers_.size() && !failure_; ++i) {
            const auto& arrived = peers_[i].arrived();
            for (const Message& message : arrived)
                if (message.header.kind == Header::Kind::failure && !failure_) {
                    const auto* words = reinterpret_cast<const char*>(message.bytes.data());
                    failure_ = decode_error({words, words + message.bytes.size()});
                }
            if (!failure_ && !peers_[i].open() && !peers_[i].left_in_order())
                failure_ = socket_error(text("rank ", rank_of(i), " is gone"));
            if (failure_) {
                tell(*failure_, rank_of(i));
                flush(std::chrono::seconds(1));
            }
        }
    }

    /// Whether to wait longer for a peer that was last heard of then. Errors: backend_failed, interrupted.
    Status may_wait(std::size_t peer, Clock::time_point since) {
        const auto now = Clock::now();
        const std::string who = text("rank ", rank_of(peer));
        if (now - std::max(since, peers_[peer].heard()) > timeouts_.silence)
            return socket_error(text(who, " has sent nothing for ", timeouts_.silence.count(), " s"));
        if (!interrupt_asked()) {
            interrupted_.reset();
            return {};
        }
        if (!interrupted_)
            interrupted_ = now; // ranks that were asked as well come to an agreement at their next step
        if (now - *interrupted_ > timeouts_.after_interrupt)
            return Error{ErrorCode::interrupted, text("interrupted while waiting for ", who, ", which does not answer"),
                         "MASTER_ADDR"};
        return {};
    }

    /// Until all that is to be sent is sent, as long as there is hope.
    void flush(std::chrono::seconds longest) {
        const auto latest = Clock::now() + longest;
        const auto sends = [](const Peer& peer) { return peer.open() && peer.sends(); };
        while (std::any_of(peers_.begin(), peers_.end(), sends) && Clock::now() < latest)
            move_messages(all_peers(), 100);
    }

    /// What stops everything from now on, told to all.
    Error stop_with(const Error& error) {
        failure_ = error;
        tell(error, -1);
        flush(std::chrono::seconds(10));
        return error;
    }

    /// The peer's next message, which has so many bytes.
    Result<Message> receive(std::size_t peer) {
        auto& arrived = peers_[peer].arrived();
        const auto since = Clock::now();
        while (arrived.empty()) {
            if (peers_[peer].left_in_order())
                failure_ = socket_error(text("rank ", rank_of(peer), " is gone"));
            if (failure_)
                return *failure_;
            if (const Status waiting = may_wait(peer, since); !waiting)
                return stop_with(waiting.error());
            look(100);
        }
        if (failure_)
            return *failure_;
        Message message = std::move(arrived.front());
        arrived.pop_front();
        return message;
    }

    Status collective(const Contribution& own) {
        MFRES_CHECK(check());
        return launch_.rank == 0 ? lead(own) : follow(own);
    }

    Status follow(const Contribution& own) {
        Header header;
        header.kind = Header::Kind::contribution;
        header.call = own.call;
        header.root = own.root;
        // What the others send is all that is wanted of a broadcast; the length tells whether all agree.
        peers_[0].expect(own.bytes.size());
        peers_[0].send(header, own.bytes);
        MFRES_TRY(const Message result, receive(0));
        if (result.header.kind != Header::Kind::result || result.header.bytes != own.bytes.size())
            return Error{ErrorCode::internal,
                         text("rank 0 sent ", result.header.bytes, " bytes in place of ", own.bytes.size()),
                         {}};
        if (!own.bytes.empty())
            std::memcpy(own.bytes.data(), result.bytes.data(), own.bytes.size());
        return {};
    }

    Status lead(const Contribution& own) {
        std::vector<Message> messages;
        std::vector<Contribution> all{own};
        for (Peer& peer : peers_)
            peer.expect(own.bytes.size());
        for (std::size_t i = 0; i < peers_.size(); ++i) {
            MFRES_TRY(Message message, receive(i));
            const Header& brought = message.header;
            if (brought.kind != Header::Kind::contribution || brought.call != own.call || brought.root != own.root ||
                brought.bytes != own.bytes.size())
                return stop_with({ErrorCode::internal,
                                  text("rank 0 called ", name(own.call), " with ", own.bytes.size(), " bytes and root ",
                                       own.root, ", rank ", rank_of(i), " ", name(brought.call), " with ",
                                       brought.bytes, " bytes and root ", brought.root),
                                  {}});
            messages.push_back(std::move(message));
        }
        for (Message& message : messages)
            all.push_back({message.header.call, message.bytes, message.header.root});
        combine(all);
        Header header;
        header.kind = Header::Kind::result;
        header.call = own.call;
        for (Peer& peer : peers_)
            peer.send(header, own.bytes);
        const auto since = Clock::now();
        for (std::size_t i = 0; i < peers_.size(); ++i) // the others wait for it
            while (peers_[i].open() && peers_[i].sends()) {
                if (const Status waiting = may_wait(i, since); !waiting)
                    return stop_with(waiting.error());
                move_messages(all_peers(), 100);
            }
        return {};
    }

    Launch launch_;
    std::vector<Peer> peers_;
    SocketTimeouts timeouts_;
    std::optional<Clock::time_point> interrupted_;
    std::optional<Error> failure_;
};

// ---- greeting -------------------------------------------------------------------------------------------------------
//
// Rank 0 sends a challenge to whoever connects, gets an answer, and sends a verdict. All three have a fixed size, and the
// first two begin with 8 characters and the program's version in every version of this protocol. The tags are
// HMAC-SHA-256 under the secret of the ranks over what both sides have sent before, with random numbers of both, so that
// neither side can be played back. What follows is not encrypted.

constexpr std::size_t magic_bytes = 8, version_bytes = 32, nonce_bytes = 32, tag_bytes = 32;
constexpr std::string_view magic = "MFRESRK2";
static_assert(magic.size() == magic_bytes);

constexpr std::size_t prefix_bytes = magic_bytes + version_bytes;
constexpr std::size_t challenge_bytes = prefix_bytes + 4 + nonce_bytes;              // size of the world, nonce
constexpr std::size_t answer_bytes = prefix_bytes + 4 + 4 + nonce_bytes + tag_bytes; // size, rank, nonce, tag
constexpr std::size_t verdict_bytes = 4 + tag_bytes;

using Bytes = std::vector<std::byte>;

enum class Verdict : std::uint32_t { welcome, other_version, other_size, no_such_rank, wrong_secret };

std::string this_version() {
    return std::string(MFRES_VERSION).substr(0, version_bytes);
}

void put_prefix(Bytes& message) {
    const std::string version = this_version();
    std::memcpy(message.data(), magic.data(), magic_bytes);
    std::memcpy(message.data() + magic_bytes, version.data(), version.size());
}

bool has_magic(std::span<const std::byte> message) {
    return message.size() >= magic_bytes && std::memcmp(message.data(), magic.data(), magic_bytes) == 0;
}

/// The version in a prefix, for a message: printable characters only.
std::string version_of(const Bytes& message) {
    std::string version;
    for (std::size_t i = magic_bytes; i < prefix_bytes && message[i] != std::byte{0}; ++i) {
        const char c = static_cast<char>(message[i]);
        version += c >= '!' && c <= '~' ? c : '?';
    }
    return version;
}

Status put_nonce(std::byte* to) {
    if (::getrandom(to, nonce_bytes, 0) == static_cast<ssize_t>(nonce_bytes))
        return {};
    return socket_error(text("the system gives no random numbers: ", std::strerror(errno)));
}

Sha256::Digest tag_of(std::string_view secret, std::string_view role,
                      std::initializer_list<std::span<const std::byte>> parts) {
    Bytes message;
    const auto append = [&](std::span<const std::byte> part) {
        message.insert(message.end(), part.begin(), part.end());
    };
    append(std::as_bytes(std::span(role)));
    for (const auto part : parts)
        append(part);
    return hmac_sha256(std::as_bytes(std::span(secret)), message);
}

/// Compares in a time that does not depend on where they differ.
bool same_tag(const Sha256::Digest& tag, const std::byte* received) {
    unsigned difference = 0;
    for (std::size_t i = 0; i < tag.size(); ++i)
        difference |= static_cast<unsigned>(tag[i]) ^ std::to_integer<unsigned>(received[i]);
    return difference == 0;
}

void put_tag(std::byte* to, const Sha256::Digest& tag) {
    std::memcpy(to, tag.data(), tag_bytes);
}

Bytes answer_to(const Bytes& challenge, const Launch& launch, std::string_view secret, const Bytes& nonce) {
    Bytes answer(answer_bytes);
    put_prefix(answer);
    put(answer.data() + prefix_bytes, static_cast<std::uint32_t>(launch.size), 4);
    put(answer.data() + prefix_bytes + 4, static_cast<std::uint32_t>(launch.rank), 4);
    std::copy(nonce.begin(), nonce.end(), answer.begin() + prefix_bytes + 8);
    const auto unsigned_part = std::span(answer).first(answer_bytes - tag_bytes);
    put_tag(answer.data() + answer_bytes - tag_bytes, tag_of(secret, "rank", {challenge, unsigned_part}));
    return answer;
}

Sha256::Digest verdict_tag(std::string_view secret, const Bytes& answer, std::span<const std::byte> verdict) {
    return tag_of(secret, "root", {answer, verdict});
}

// ---- rendezvous -----------------------------------------------------------------------------------------------------

/// Addresses of the rendezvous.
using Addresses = std::unique_ptr<addrinfo, decltype(&freeaddrinfo)>;

bool is_loopback(const addrinfo& address) {
    if (address.ai_family == AF_INET)
        return ntohl(reinterpret_cast<const sockaddr_in*>(address.ai_addr)->sin_addr.s_addr) >> 24U == 127;
    return address.ai_family == AF_INET6 &&
           IN6_IS_ADDR_LOOPBACK(&reinterpret_cast<const sockaddr_in6*>(address.ai_addr)->sin6_addr);
}

/// The addresses of the place. Without a secret they must not be reached from other machines.
Result<Addresses> resolve(const Rendezvous& place, std::string_view secret) {
    addrinfo hints{};
    hints.ai_family = AF_UNSPEC;
    hints.ai_socktype = SOCK_STREAM;
    addrinfo* list = nullptr;
    if (const int problem = getaddrinfo(place.address.c_str(), std::to_string(place.port).c_str(), &hints, &list);
        problem != 0)
        return socket_error(text("the address ", place.address, " of rank 0 is unknown: ", gai_strerror(problem)));
    Addresses found(list, &freeaddrinfo);
    for (const addrinfo* one = found.get(); one; one = one->ai_next)
        if (secret.empty() && !is_loopback(*one))
            return Error{ErrorCode::invalid_argument,
                         text("MASTER_ADDR=", place.address, " can be reached from other machines, and ", token_name,
                              " is not set; give every rank the same ", token_name, " of ", least_token,
                              " random characters or more, or use 127.0.0.1"),
                         token_name};
    return found;
}

Descriptor make_ready(Descriptor made) {
    const int socket = made.number();
    const int on = 1;
    (void)::setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); // send small messages without delay
    (void)::setsockopt(socket, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    (void)::fcntl(socket, F_SETFL, ::fcntl(socket, F_GETFL) | O_NONBLOCK);
    return made;
}

/// At the address of the place and no other.
Result<Descriptor> listen_at(const Rendezvous& place, std::string_view secret) {
    MFRES_TRY(const Addresses addresses, resolve(place, secret));
    int reason = 0;
    for (const addrinfo* one = addresses.get(); one; one = one->ai_next) {
        Descriptor listener(::socket(one->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
        const int on = 1;
        if (listener.valid())
            (void)::setsockopt(listener.number(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        if (listener.valid() && ::bind(listener.number(), one->ai_addr, one->ai_addrlen) == 0 &&
            ::listen(listener.number(), SOMAXCONN) == 0)
            return listener;
        reason = errno;
    }
    return socket_error(
        text("rank 0 cannot listen at ", place.address, " port ", place.port, ": ", std::strerror(reason)));
}

Error interrupted_here() {
    return {ErrorCode::interrupted, "interrupted while waiting for the other ranks", "MASTER_ADDR"};
}

/// Waits until the socket can be read or written (`events`), the deadline, or an interrupt.
Status wait_for(int socket, short events, Clock::time_point latest, const std::string& late) {
    for (;;) {
        if (interrupt_asked())
            return interrupted_here();
        if (Clock::now() > latest)
            return socket_error(late);
        pollfd polled{socket, events, 0};
        if (::poll(&polled, 1, 50) > 0)
            return {};
    }
}

/// Sends or receives all of the bytes before the deadline.
Status transfer(int socket, std::span<std::byte> bytes, bool sending, Clock::time_point latest,
                const std::string& who) {
    while (!bytes.empty()) {
        MFRES_CHECK(wait_for(socket, sending ? POLLOUT : POLLIN, latest, text(who, " does not answer")));
        const auto count = sending ? ::send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL)
                                   : ::recv(socket, bytes.data(), bytes.size(), 0);
        if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
            continue;
        if (count <= 0)
            return socket_error(text(who, " hung up while it was greeted"));
        bytes = bytes.subspan(static_cast<std::size_t>(count));
    }
    return {};
}

/// A connection that has to prove that it is a rank, within a time and a number of bytes.
class Guest {
  public:
    Guest(Descriptor socket, Bytes challenge, Clock::time_point latest)
        : socket_(std::move(socket)), challenge_(std::move(challenge)), latest_(latest) {
        answer_.reserve(answer_bytes);
        // It fits into the buffer of a new connection.
        gone_ = ::send(socket_.number(), challenge_.data(), challenge_.size(), MSG_NOSIGNAL) !=
                static_cast<ssize_t>(challenge_.size());
    }

    /// Takes what has come. Whoever does not begin as a rank does, is slow or hangs up is gone.
    void read_some() {
        std::array<std::byte, answer_bytes> part{};
        const auto count = ::recv(socket_.number(), part.data(), answer_bytes - answer_.size(), 0);
        if (count > 0)
            answer_.insert(answer_.end(), part.begin(), part.begin() + count);
        else if (count == 0 || (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR))
            gone_ = true;
        if ((answer_.size() >= magic_bytes && !has_magic(answer_)) || Clock::now() > latest_)
            gone_ = true;
    }

    int socket() const { return socket_.number(); }
    bool gone() const { return gone_; }
    bool answered() const { return !gone_ && answer_.size() == answer_bytes; }
    int rank() const { return static_cast<std::int32_t>(get(answer_.data() + prefix_bytes + 4, 4)); }
    int size() const { return static_cast<std::int32_t>(get(answer_.data() + prefix_bytes, 4)); }
    std::string version() const { return version_of(answer_); }

    bool knows(std::string_view secret) const {
        const auto unsigned_part = std::span(answer_).first(answer_bytes - tag_bytes);
        return same_tag(tag_of(secret, "rank", {challenge_, unsigned_part}), answer_.data() + answer_bytes - tag_bytes);
    }

    void tell(Verdict verdict, std::string_view secret) {
        Bytes message(verdict_bytes);
        put(message.data(), static_cast<std::uint64_t>(verdict), 4);
        put_tag(message.data() + 4, verdict_tag(secret, answer_, std::span(message).first(4)));
        (void)::send(socket_.number(), message.data(), message.size(), MSG_NOSIGNAL);
    }

    Descriptor release() { return std::move(socket_); }

  private:
    Descriptor socket_;
    Bytes challenge_;
    Clock::time_point latest_;
    Bytes answer_;
    bool gone_ = false;
};

/// Rank 0 while the others come.
class Reception {
  public:
    Reception(const Launch& launch, const Rendezvous& place, const SocketOptions& options)
        : launch_(launch), place_(place), options_(options), latest_(Clock::now() + options.timeouts.joining),
          ranks_(static_cast<std::size_t>(launch.size) - 1) {}

    /// The others' connections by rank.
    Result<std::vector<Peer>> run() {
        MFRES_TRY(const Descriptor listener, listen_at(place_, options_.secret));
        std::size_t missing = ranks_.size();
        while (missing > 0) {
            if (interrupt_asked())
                return interrupted_here();
            if (Clock::now() > latest_)
                return socket_error(text(missing, " of ", launch_.size, " processes have not come to ", place_.address,
                                         " port ", place_.port, rejected_));
            wait(listener);
            MFRES_CHECK(accept_all(listener));
            for (Guest& guest : guests_) {
                guest.read_some();
                if (guest.answered()) {
                    MFRES_TRY(const bool joined, judge(guest));
                    missing -= joined ? 1 : 0;
                }
            }
            std::erase_if(guests_, [](const Guest& guest) { return guest.gone() || guest.answered(); });
        }
        return std::move(ranks_);
    }

  private:
    static constexpr std::size_t most_guests = 128;
    static constexpr std::chrono::seconds greeting_time{10};

    void wait(const Descriptor& listener) const {
        std::vector<pollfd> polled{{listener.number(), POLLIN, 0}};
        for (const Guest& guest : guests_)
            polled.push_back({guest.socket(), POLLIN, 0});
        (void)::poll(polled.data(), polled.size(), 50);
    }

    Status accept_all(const Descriptor& listener) {
        while (guests_.size() < most_guests) {
            const int accepted = ::accept4(listener.number(), nullptr, nullptr, SOCK_CLOEXEC);
            if (accepted < 0)
                return {};
            Bytes challenge(challenge_bytes);
            put_prefix(challenge);
            put(challenge.data() + prefix_bytes, static_cast<std::uint32_t>(launch_.size), 4);
            MFRES_CHECK(put_nonce(challenge.data() + prefix_bytes + 4));
            guests_.emplace_back(make_ready(Descriptor(accepted)), std::move(challenge), Clock::now() + greeting_time);
        }
        return {};
    }

    /// Whether the guest is a rank now. One that knows the secret and does not fit is an error of the job; one that does
    /// not is a stranger, who must not be able to end it.
    Result<bool> judge(Guest& guest) {
        if (!guest.knows(options_.secret)) {
            guest.tell(Verdict::wrong_secret, options_.secret);
            rejected_ = text("; a process that came as rank ", guest.rank(), " has another ", token_name);
            return false;
        }
        if (guest.version() != this_version()) {
            guest.tell(Verdict::other_version, options_.secret);
            return socket_error(
                text("rank ", guest.rank(), " runs mfres ", guest.version(), ", rank 0 runs mfres ", this_version()));
        }
        const int rank = guest.rank();
        const bool possible = rank >= 1 && rank < launch_.size;
        if (guest.size() != launch_.size || !possible || ranks_[static_cast<std::size_t>(rank) - 1].open()) {
            guest.tell(guest.size() != launch_.size ? Verdict::other_size : Verdict::no_such_rank, options_.secret);
            return socket_error(text("a process came as rank ", rank, " of ", guest.size(),
                                     ", which is not one of the ", launch_.size, " that rank 0 waits for"));
        }
        guest.tell(Verdict::welcome, options_.secret);
        ranks_[static_cast<std::size_t>(rank) - 1] = Peer(guest.release());
        return true;
    }

    const Launch& launch_;
    const Rendezvous& place_;
    const SocketOptions& options_;
    Clock::time_point latest_;
    std::vector<Peer> ranks_;
    std::vector<Guest> guests_;
    std::string rejected_;
};

/// Another rank on its way to rank 0.
class Visit {
  public:
    Visit(const Launch& launch, const Rendezvous& place, const SocketOptions& options)
        : launch_(launch), place_(place), options_(options), latest_(Clock::now() + options.timeouts.joining) {}

    /// The connection to rank 0.
    Result<std::vector<Peer>> run() {
        std::string problem = "nobody listens there";
        do {
            if (interrupt_asked())
                return interrupted_here();
            auto addresses = resolve(place_, options_.secret);
            if (!addresses && addresses.error().code == ErrorCode::invalid_argument)
                return addresses.error();
            if (!addresses)
                problem = addresses.error().message;
            for (const addrinfo* one = addresses ? addresses->get() : nullptr; one; one = one->ai_next) {
                MFRES_TRY(Descriptor socket, connect(*one, problem));
                if (!socket.valid())
                    continue;
                MFRES_CHECK(greet(socket.number()));
                std::vector<Peer> peers;
                peers.emplace_back(std::move(socket));
                return peers;
            }
            std::this_thread::sleep_for(std::chrono::milliseconds(50));
        } while (Clock::now() < latest_);
        return socket_error(text("rank ", launch_.rank, " does not reach rank 0 at ", place_.address, " port ",
                                 place_.port, ": ", problem));
    }

  private:
    /// A connected socket, or none, and why. Errors: interrupted.
    Result<Descriptor> connect(const addrinfo& address, std::string& problem) const {
        Descriptor socket = make_ready(Descriptor(::socket(address.ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0)));
        if (socket.valid() && ::connect(socket.number(), address.ai_addr, address.ai_addrlen) == 0)
            return socket;
        int reason = errno;
        if (socket.valid() && reason == EINPROGRESS) {
            const Status connected = wait_for(socket.number(), POLLOUT, latest_, "it does not answer");
            if (!connected && connected.error().code == ErrorCode::interrupted)
                return connected.error();
            socklen_t length = sizeof reason;
            if (connected && ::getsockopt(socket.number(), SOL_SOCKET, SO_ERROR, &reason, &length) == 0 && reason == 0)
                return socket;
        }
        problem = std::strerror(reason);
        return Descriptor();
    }

    Status greet(int socket) const {
        const auto latest = std::max(latest_, Clock::now() + std::chrono::seconds(10));
        const std::string who = text("rank 0 at ", place_.address, " port ", place_.port);
        Bytes challenge(challenge_bytes);
        MFRES_CHECK(transfer(socket, challenge, false, latest, who));
        if (!has_magic(challenge))
            return socket_error(text("what listens at ", place_.address, " port ", place_.port,
                                     " is no rank 0 of mfres, or one of another version"));
        if (version_of(challenge) != this_version()) // told at once, whatever rank 0 makes of the answer
            MFRES_CHECK(reject_version(socket, challenge, latest, who));
        Bytes nonce(nonce_bytes);
        MFRES_CHECK(put_nonce(nonce.data()));
        Bytes answer = answer_to(challenge, launch_, options_.secret, nonce);
        MFRES_CHECK(transfer(socket, answer, true, latest, who));
        Bytes verdict(verdict_bytes);
        MFRES_CHECK(transfer(socket, verdict, false, latest, who));
        return judge(challenge, answer, verdict);
    }

    Status reject_version(int socket, const Bytes& challenge, Clock::time_point latest, const std::string& who) const {
        Bytes nonce(nonce_bytes);
        Bytes answer = answer_to(challenge, launch_, options_.secret, nonce);
        (void)transfer(socket, answer, true, latest, who); // so that rank 0 learns of it
        return socket_error(
            text("rank ", launch_.rank, " runs mfres ", this_version(), ", rank 0 runs mfres ", version_of(challenge)));
    }

    Status judge(const Bytes& challenge, const Bytes& answer, const Bytes& verdict) const {
        const auto told = static_cast<Verdict>(get(verdict.data(), 4));
        const bool genuine =
            same_tag(verdict_tag(options_.secret, answer, std::span(verdict).first(4)), verdict.data() + 4);
        if (told == Verdict::wrong_secret || !genuine)
            return socket_error(text("rank 0 and rank ", launch_.rank, " have different values of ", token_name));
        if (told == Verdict::welcome)
            return {};
        return socket_error(text("rank 0 waits for ", get(challenge.data() + prefix_bytes, 4),
                                 " processes, and this one came as rank ", launch_.rank, " of ", launch_.size,
                                 told == Verdict::no_such_rank ? ", or another has come as that rank" : ""));
    }

    const Launch& launch_;
    const Rendezvous& place_;
    const SocketOptions& options_;
    Clock::time_point latest_;
};

} // namespace

void set_rank_interrupt(bool (*asked)()) {
    rank_interrupt = asked;
}

Result<std::string> rendezvous_secret(const Environment& environment) {
    const char* const words = environment(token_name);
    const std::string secret = words ? words : "";
    if (!secret.empty() && secret.size() < least_token)
        return Error{ErrorCode::invalid_argument,
                     text(token_name, " has ", secret.size(), " characters, it needs ", least_token, " or more"),
                     token_name};
    return secret;
}

Result<std::shared_ptr<Communicator>> join_sockets(const Launch& launch, const Rendezvous& place,
                                                   const SocketOptions& options) {
    MFRES_TRY(auto peers,
              launch.rank == 0 ? Reception(launch, place, options).run() : Visit(launch, place, options).run());
    auto ranks = std::make_shared<SocketRank>(launch, std::move(peers), options.timeouts);
    MFRES_CHECK(ranks->barrier());
    return std::shared_ptr<Communicator>(std::move(ranks));
}

} // namespace mfres

#endif // _WIN32
