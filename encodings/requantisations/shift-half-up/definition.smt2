; uses: integers.smt2
; clamp((acc + 2^(shift-1)) >> shift)
(define-fun requantise-shift-half-up ((acc Acc) (shift Acc) (lo Acc) (hi Acc)) Acc
  (clamp (shift-half-up (widen acc) (widen shift)) lo hi))
