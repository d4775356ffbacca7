; uses: integers.smt2
; Any function of one value: entry x - first. Here for a type of four values; one of 8 bits has 256 entries in the same form.
(define-fun table-4 ((x Acc) (first Acc) (y0 Acc) (y1 Acc) (y2 Acc) (y3 Acc)) Acc
  (ite (bvslt x (bvadd first (_ bv2 32)))
    (ite (bvslt x (bvadd first (_ bv1 32))) y0 y1)
    (ite (bvslt x (bvadd first (_ bv3 32))) y2 y3)))
