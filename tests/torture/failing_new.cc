// tests/torture/failing_new.cc: operator new that fails on command, for all C++ in the process. See failing.h.
#include <cstdlib>
#include <new>

extern "C" {
#include "failing.h"
void *__real_malloc(std::size_t n);
}

void *operator new(std::size_t n)
{
    void *p = failing_now(FAIL_CPP_MEMORY) ? nullptr : __real_malloc(n > 0 ? n : 1);
    if (p == nullptr) throw std::bad_alloc();
    return p;
}

void *operator new[](std::size_t n)
{
    return operator new(n);
}

void operator delete(void *p) noexcept
{
    std::free(p);
}

void operator delete(void *p, std::size_t) noexcept
{
    std::free(p);
}

void operator delete[](void *p) noexcept
{
    std::free(p);
}

void operator delete[](void *p, std::size_t) noexcept
{
    std::free(p);
}
