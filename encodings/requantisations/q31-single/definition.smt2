; uses: integers.smt2
; One rounding, half up, of the 64-bit product: (acc * mantissa + 2^(30-shift)) >> (31-shift).
; The kernel shifts by one bit less, adds 1 and shifts once more, which is the same and needs no room for the sum.
; The shift is below 31, and a right shift of 63 or more leaves the sign alone.
(define-fun total-shift ((shift Acc)) Wide (bvsub (bvsub q-bits (widen shift)) one))
(define-fun requantise-q31-single ((acc Acc) (mantissa Acc) (shift Acc) (zero-point Acc) (lo Acc) (hi Acc)) Acc
  (clamp (bvadd (bvashr (bvadd (bvashr (bvmul (widen acc) (widen mantissa)) (total-shift shift)) one) one) (widen zero-point)) lo hi))
