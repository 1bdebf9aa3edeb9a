module caracal/tests/go-template

go 1.24
