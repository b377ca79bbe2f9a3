"""CRC-32C of 64 bytes at once, where the processor has VPCLMULQDQ for 512 bits.

The bits are the coefficients of a polynomial over GF(2), and the checksum is its
remainder. To fold a block onto a later one means to multiply it by a power of x, modulo
the polynomial of the checksum, and to add it there. The multiplier takes two cycles for
64 bytes, and four chains of such blocks keep it busy: a KiB takes 16 ns, where the
processor's CRC-32C instruction takes 32.

A constant's first half folds the earlier 8 bytes of 16 by so many bytes, x^(8n + 63),
and its second half the later ones, x^(8n - 1), each with its bits in reverse.

Source: Intel, "Fast CRC Computation for Generic Polynomials Using PCLMULQDQ
Instruction"; RFC 3720, B.4, for the polynomial.
"""

from libc.stddef cimport size_t
from libc.stdint cimport uint32_t, uint8_t

cdef extern from * nogil:
    """
    #if defined(__x86_64__) && defined(__GNUC__) && __GNUC__ >= 9
    #include <immintrin.h>
    #include <stdint.h>
    #include <string.h>
    #define WIDE_CRC __attribute__(( \\
        target("avx512f,avx512dq,avx512vl,avx512bw,vpclmulqdq,pclmul,sse4.2")))
    #define PART(blocks, i) _mm512_extracti64x2_epi64(blocks, i)
    #define FOLD_BY_256 0xe9a5d8be00000000, 0x1426a81500000000
    #define FOLD_BY_64 0x1c19243b00000000, 0x75bba45b00000000

    static int has_wide_crc32c(void) {
        __builtin_cpu_init();
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq")
            && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw")
            && __builtin_cpu_supports("vpclmulqdq") && __builtin_cpu_supports("pclmul")
            && __builtin_cpu_supports("sse4.2");
    }

    static inline WIDE_CRC __m512i fold_factor(uint64_t earlier, uint64_t later) {
        return _mm512_set_epi64(
            later, earlier, later, earlier, later, earlier, later, earlier
        );
    }

    /* Fold blocks onto 64 bytes. */
    static inline WIDE_CRC __m512i fold(__m512i blocks, __m512i by, __m512i onto) {
        return _mm512_ternarylogic_epi64(
            _mm512_clmulepi64_epi128(blocks, by, 0x00),
            _mm512_clmulepi64_epi128(blocks, by, 0x11),
            onto, 0x96  /* exclusive or of three */
        );
    }

    /* Extend a checksum by 16 bytes that four blocks are folded onto. */
    static inline WIDE_CRC uint64_t sum_of_blocks(__m512i blocks) {
        const __m512i by = _mm512_set_epi64(
            0, 0,
            0x3171d43000000000, 0x3743f7bd00000000,
            0xa2158b3400000000, 0x33ccbbbc00000000,
            0x6051243f00000000, 0xa46ef4aa00000000
        );  /* by 16, 32 and 48 */
        __m128i sum;
        blocks = fold(blocks, by, _mm512_maskz_mov_epi64(0xc0, blocks));
        sum = _mm_xor_si128(
            _mm_xor_si128(PART(blocks, 0), PART(blocks, 1)),
            _mm_xor_si128(PART(blocks, 2), PART(blocks, 3))
        );
        return _mm_crc32_u64(
            _mm_crc32_u64(0, _mm_cvtsi128_si64(sum)), _mm_extract_epi64(sum, 1)
        );
    }

    static WIDE_CRC uint32_t wide_crc32c(
        uint32_t crc, const uint8_t* bytes, size_t length
    ) {
        uint64_t sum = (uint32_t) ~crc, word;
        if (length >= 256) {
            const __m512i far = fold_factor(FOLD_BY_256);
            const __m512i near = fold_factor(FOLD_BY_64);
            __m512i at[4];
            int i;
            for (i = 0; i < 4; i++)
                at[i] = _mm512_loadu_si512(bytes + 64 * i);
            at[0] = _mm512_xor_si512(at[0], _mm512_maskz_set1_epi64(1, sum));
            bytes += 256;
            length -= 256;
            for (; length >= 256; bytes += 256, length -= 256)
                for (i = 0; i < 4; i++)
                    at[i] = fold(at[i], far, _mm512_loadu_si512(bytes + 64 * i));
            for (i = 1; i < 4; i++)
                at[i] = fold(at[i - 1], near, at[i]);
            for (; length >= 64; bytes += 64, length -= 64)
                at[3] = fold(at[3], near, _mm512_loadu_si512(bytes));
            sum = sum_of_blocks(at[3]);
        }
        for (; length >= 8; bytes += 8, length -= 8) {
            memcpy(&word, bytes, 8);
            sum = _mm_crc32_u64(sum, word);
        }
        for (; length; bytes++, length--)
            sum = _mm_crc32_u8((uint32_t) sum, *bytes);
        return ~(uint32_t) sum;
    }
    #else
    static int has_wide_crc32c(void) { return 0; }
    static uint32_t wide_crc32c(uint32_t crc, const uint8_t* bytes, size_t length) {
        (void) bytes; (void) length;
        return crc;
    }
    #endif
    """
    bint has_wide_crc32c() noexcept
    uint32_t wide_crc32c(uint32_t, const uint8_t*, size_t) noexcept
