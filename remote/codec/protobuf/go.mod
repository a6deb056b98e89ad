module github.com/tandemcache/tandem/remote/codec/protobuf

go 1.26.0

replace github.com/tandemcache/tandem => ../../..
