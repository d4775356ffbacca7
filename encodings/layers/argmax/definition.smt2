; uses: integers.smt2
; The first index of the largest value: two classes at the saturated top are a tie, and the one that comes first wins it.
(define-fun argmax-3 ((y0 Acc) (y1 Acc) (y2 Acc)) Acc
  (ite (and (bvsge y0 y1) (bvsge y0 y2)) (_ bv0 32)
    (ite (bvsge y1 y2) (_ bv1 32) (_ bv2 32))))
; Whether another class takes the place of label, 0 to 2: what a property of robustness asks.
(define-fun misclassified-3 ((y0 Acc) (y1 Acc) (y2 Acc) (label Acc)) Bool
  (distinct (argmax-3 y0 y1 y2) label))
