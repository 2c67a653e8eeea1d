#include "all_headers.hpp"

int main() { return 0; }
