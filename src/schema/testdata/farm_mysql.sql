CREATE TABLE `parcel` (
  `id` bigint(20) NOT NULL AUTO_INCREMENT,
  `code` varchar(20) CHARACTER SET utf8mb4 NOT NULL DEFAULT '' COMMENT 'as printed',
  `hectares` decimal(8,2) unsigned DEFAULT 0.00,
  `soil` enum('clay','sand') DEFAULT NULL,
  `seen` timestamp NOT NULL DEFAULT current_timestamp() ON UPDATE current_timestamp(),
  PRIMARY KEY (`id`),
  UNIQUE KEY `by code` (`code`(10)),
  CONSTRAINT `farm_of` FOREIGN KEY (`farm`) REFERENCES `farm` (`id`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;
SET @big = 100;
INSERT INTO `parcel` (`code`) VALUES ("a"), ('b\\');
