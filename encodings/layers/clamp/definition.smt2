; uses: integers.smt2
; min(max(x, lo), hi): ReLU, ReLU6 and Clip on integers.
(define-fun clamp-layer ((x Acc) (lo Acc) (hi Acc)) Acc (clamp (widen x) lo hi))
