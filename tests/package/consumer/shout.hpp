#pragma once

#include <cctype>
#include <string>

#include <midwire/engine.hpp>

/// Answers each line in capitals.
class shout : public midwire::protocol {
 public:
  void data_received(midwire::chunk data) override {
    line_ += data.text();
    for (auto end = line_.find('\n'); end != line_.npos; end = line_.find('\n')) {
      std::string answer = line_.substr(0, end + 1);
      line_.erase(0, end + 1);
      for (char& c : answer) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
      transport().write(std::move(answer));
    }
  }

 private:
  std::string line_;
};
