module gocker/step05-namespaces

go 1.26.5
