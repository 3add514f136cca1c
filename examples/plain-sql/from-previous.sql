-- The rows of the version before, which can be read as `previous`.
INSERT INTO customer (id, name) SELECT id, name FROM previous.customer;
INSERT INTO purchase (id, customer, cents) SELECT id, customer, cents FROM previous.purchase;
