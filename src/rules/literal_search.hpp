#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <midwire/base/views.hpp>

namespace midwire::rules {

/// Searches for one literal: a vector search for whole occurrences, and the Knuth-Morris-Pratt automaton for those that
/// are cut by the end of what has come. Immutable. Both are linear in the text, whatever the octets are.
class literal_search {
 public:
  static constexpr std::size_t none = ~std::size_t{0};

  /// `octets` is not empty. With `ignore_case` the letters A-Z and a-z of ASCII are the same.
  literal_search(std::string_view octets, bool ignore_case);

  std::size_t size() const noexcept { return needle_.size(); }
  /// Where the first whole occurrence that begins at or behind `from` begins; none.
  std::size_t find(byte_view text, std::size_t from) const noexcept;
  /// How many of the literal's octets stand at the end of the text once `octet` has come, when `matched` did before:
  /// size() is an occurrence.
  std::size_t step(std::size_t matched, std::uint8_t octet) const noexcept {
    const std::uint8_t c = fold_[octet];
    while (matched > 0 && (matched == needle_.size() || needle_[matched] != c)) matched = border_[matched - 1];
    return needle_[matched] == c ? matched + 1 : 0;
  }
  /// The next shorter candidate behind one of `matched` octets (more than 0): the longest proper border.
  std::size_t border(std::size_t matched) const noexcept { return border_[matched - 1]; }
  /// The longest proper prefix of the literal that ends `text` and begins at or behind `from`.
  std::size_t open_at_end(byte_view text, std::size_t from) const noexcept;

 private:
  using finder = std::size_t (*)(const literal_search&, const std::uint8_t* text, std::size_t from, std::size_t size,
                                 bool& costly) noexcept;
  static finder choose(bool fold) noexcept;
  static std::size_t find_avx2(const literal_search& s, const std::uint8_t* text, std::size_t from, std::size_t size,
                               bool& costly) noexcept;
  static std::size_t find_avx2_fold(const literal_search& s, const std::uint8_t* text, std::size_t from,
                                    std::size_t size, bool& costly) noexcept;
  static std::size_t find_base(const literal_search& s, const std::uint8_t* text, std::size_t from, std::size_t size,
                               bool& costly) noexcept;
  static std::size_t find_base_fold(const literal_search& s, const std::uint8_t* text, std::size_t from,
                                    std::size_t size, bool& costly) noexcept;
  template <bool Fold>
  bool stands_at(const std::uint8_t* at) const noexcept;

  std::vector<std::uint8_t> needle_;  // folded
  std::vector<std::uint32_t> border_;
  std::array<std::uint8_t, 256> fold_;
  bool ignore_case_;
  finder finder_;
};

}  // namespace midwire::rules
