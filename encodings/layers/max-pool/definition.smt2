; uses: integers.smt2
; The largest value of a window; padded positions take no part.
(define-fun larger ((a Acc) (b Acc)) Acc (ite (bvsgt b a) b a))
(define-fun max-pool-2x2 ((x00 Acc) (x01 Acc) (x10 Acc) (x11 Acc)) Acc
  (larger (larger (larger x00 x01) x10) x11))
